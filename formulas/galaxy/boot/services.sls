# Services that Galaxy needs, such as autofs for CVMFS, a database, a proxy; after its data is there, before it starts.
{%- from "galaxy/map.jinja" import galaxy, has_storage, has_onedata with context %}

include:
  - galaxy.service.running

{%- for name in galaxy.boot.services %}
galaxy-boot-services-{{ name }}:
  service.running:
    - name: {{ name | json }}
    {%- if has_storage or has_onedata %}
    - require:
      {%- if has_storage %}
      - sls: galaxy.storage
      {%- endif %}
      {%- if has_onedata %}
      - sls: galaxy.onedata
      {%- endif %}
    {%- endif %}
    - require_in:
      - galaxy: galaxy-service-running
{%- endfor %}
