# Undoes galaxy.onedata: stops Galaxy, then unmounts its spaces.
{%- from "galaxy/map.jinja" import servers, has_onedata with context %}

include:
  - galaxy.stopped

{%- for name in (salt["onedata.spaces"]() if has_onedata else []) %}
galaxy-onedata-{{ name }}-unmounted:
  onedata.unmounted:
    - name: {{ name | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for server in servers.values() %}
      - galaxy: galaxy-stopped{{ server.suffix }}
      {%- endfor %}
{%- endfor %}
