# Restarts each Galaxy now, whether it runs or not: state.apply galaxy.restarted
{%- from "galaxy/map.jinja" import servers with context %}

include:
  - galaxy.settings

{%- for name, server in servers.items() %}
galaxy-restarted{{ server.suffix }}:
  galaxy.restarted:
    - server: {{ name | json }}
    - mounts: {{ server.mounts | json }}
    - require:
      - galaxy: galaxy-settings
{%- endfor %}
