# Undoes galaxy.onedata: Galaxy is stopped, then its spaces are unmounted.

include:
  - galaxy.stopped

{%- for name in salt["onedata.spaces"]() %}
galaxy-onedata-{{ name }}-unmounted:
  onedata.unmounted:
    - name: {{ name | json }}
    - require:
      - sls: galaxy.stopped
{%- endfor %}
