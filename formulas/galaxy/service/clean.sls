# Undoes galaxy.service: stops each Galaxy, and removes what the formula wrote for its process manager.
{%- from "galaxy/map.jinja" import servers with context %}

include:
  - galaxy.stopped

{%- for name, server in servers.items() if server.manage_service %}
{%- if server.manager == "systemd" %}
galaxy-service-clean-boot{{ server.suffix }}:
  service.disabled:
    - name: {{ server.service | json }}
    - require:
      - galaxy: galaxy-stopped{{ server.suffix }}
{%- endif %}

galaxy-service-clean{{ server.suffix }}:
  galaxy.undefined:
    - server: {{ name | json }}
    - require:
      - galaxy: galaxy-stopped{{ server.suffix }}
{%- endfor %}

{%- for name, server in servers.items() if not server.manage_service %}
galaxy-service-clean-released{{ server.suffix }}:
  galaxy.released:
    - server: {{ name | json }}
    - require:
      - galaxy: galaxy-stopped{{ server.suffix }}
{%- endfor %}
