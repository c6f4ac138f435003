# The Onedata spaces that pillar declares are mounted: state.apply galaxy.onedata
{%- from "galaxy/map.jinja" import galaxy with context %}

{%- for name in galaxy.onedata.spaces %}
galaxy-onedata-{{ name }}-mounted:
  onedata.mounted:
    - name: {{ name | json }}
    - timeout: {{ galaxy.onedata.timeout | json }}
{%- endfor %}
