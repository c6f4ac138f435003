# Stops each Galaxy: state.apply galaxy.stopped
{%- from "galaxy/map.jinja" import servers with context %}

include:
  - galaxy.settings

{%- for name, server in servers.items() %}
galaxy-stopped{{ server.suffix }}:
  galaxy.dead:
    - server: {{ name | json }}
    - require:
      - galaxy: galaxy-settings
{%- endfor %}
