# Galaxy is stopped: state.apply galaxy.stopped
{%- from "galaxy/map.jinja" import galaxy, server with context %}

galaxy-stopped:
  galaxy.dead:
    {%- for key, value in server.items() %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    - force: {{ galaxy.force | json }}
