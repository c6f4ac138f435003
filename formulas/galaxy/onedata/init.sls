# The Onedata spaces that pillar declares are mounted: state.apply galaxy.onedata
{%- from "galaxy/map.jinja" import galaxy, has_storage with context %}

{%- if has_storage %}
include:
  - galaxy.storage
{%- endif %}

{%- for name in salt["onedata.spaces"]() %}
galaxy-onedata-{{ name }}-mounted:
  onedata.mounted:
    - name: {{ name | json }}
    - timeout: {{ galaxy.onedata.timeout | json }}
    {%- if has_storage %}
    - require:
      - sls: galaxy.storage
    {%- endif %}
{%- endfor %}
