# The process manager's definition of each Galaxy, where manage_service asks for it, or gravity_update where Gravity runs
# it; what Gravity wrote starts nothing before Galaxy's data is there.
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
# not before its data is there: then the boot starts it
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
