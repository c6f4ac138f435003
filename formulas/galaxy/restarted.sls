# Galaxy is restarted now, whatever state it is in: state.apply galaxy.restarted
{%- from "galaxy/map.jinja" import galaxy, server with context %}

galaxy-restarted:
  module.run:
    - galaxy.restart:
      {%- for key, value in server.items() %}
      - {{ key }}: {{ value | json }}
      {%- endfor %}
      - timeout: {{ galaxy.timeout | json }}
      - workers: {{ galaxy.min_workers | json }}
      - force: {{ galaxy.force | json }}
