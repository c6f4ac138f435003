# Writes the process manager's definition of each Galaxy, if manage_service asks for it. For a Galaxy under Gravity,
# updates Gravity's files if gravity_update asks for it, and makes Gravity's units wait for Galaxy's data.
{%- from "galaxy/map.jinja" import servers, has_onedata with context %}

include:
  - galaxy.settings
  - galaxy.service.running

{%- for name, server in servers.items() if server.manage_service %}
galaxy-service-config{{ server.suffix }}:
  galaxy.defined:
    - server: {{ name | json }}
    - require:
      - galaxy: galaxy-settings
    - watch_in:
      - galaxy: galaxy-service-running{{ server.suffix }}

{%- if server.manager == "systemd" %}
# if Galaxy has data to mount first, galaxy.boot starts it
galaxy-service-config-boot{{ server.suffix }}:
  service.{{ "enabled" if server.autostart and not server.storages and not has_onedata else "disabled" }}:
    - name: {{ server.service | json }}
    - require:
      - galaxy: galaxy-service-config{{ server.suffix }}
    - require_in:
      - galaxy: galaxy-service-running{{ server.suffix }}
{%- endif %}
{%- endfor %}

{%- for name, server in servers.items() if not server.manage_service %}
{%- if server.gravity_update %}
galaxy-service-updated{{ server.suffix }}:
  galaxy.updated:
    - server: {{ name | json }}
    - mounts: {{ server.mounts | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for storage in server.storages %}
      - test: galaxy-storage{{ storage.suffix }}
      {%- endfor %}
    - require_in:
      - galaxy: galaxy-service-held{{ server.suffix }}
    - watch_in:
      - galaxy: galaxy-service-running{{ server.suffix }}
{%- endif %}

galaxy-service-held{{ server.suffix }}:
  galaxy.held:
    - server: {{ name | json }}
    - mounts: {{ server.mounts | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for storage in server.storages %}
      - test: galaxy-storage{{ storage.suffix }}
      {%- endfor %}
{%- endfor %}
