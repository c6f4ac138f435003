# Mounts the Onedata spaces that pillar declares: state.apply galaxy.onedata
{%- from "galaxy/map.jinja" import volumes, onedata, has_onedata with context %}

include:
  - galaxy.settings
  {%- if volumes %}
  - galaxy.storage
  {%- endif %}

{%- for name in (salt["onedata.spaces"]() if has_onedata else []) %}
galaxy-onedata-{{ name }}-mounted:
  onedata.mounted:
    - name: {{ name | json }}
    - timeout: {{ onedata.timeout | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for suffix in volumes %}
      - test: galaxy-storage{{ suffix }}
      {%- endfor %}
{%- endfor %}

{%- if has_onedata %}
# states that need the spaces require this one
galaxy-onedata:
  test.nop:
    - require:
      - galaxy: galaxy-settings
      {%- for name in salt["onedata.spaces"]() %}
      - onedata: galaxy-onedata-{{ name }}-mounted
      {%- endfor %}
{%- endif %}
