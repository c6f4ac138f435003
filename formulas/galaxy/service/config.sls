# The process manager's definition of each Galaxy, where manage_service asks for it.
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
