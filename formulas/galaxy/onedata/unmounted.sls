# Undoes galaxy.onedata: Galaxy is stopped, then its spaces are unmounted.
{%- from "galaxy/map.jinja" import galaxy with context %}

include:
  - galaxy.stopped

{%- for name in galaxy.onedata.spaces %}
galaxy-onedata-{{ name }}-unmounted:
  onedata.unmounted:
    - name: {{ name | json }}
    - require:
      - sls: galaxy.stopped
{%- endfor %}
