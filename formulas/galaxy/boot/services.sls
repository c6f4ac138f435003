# Starts services that Galaxy needs (autofs for CVMFS, a database, a proxy): after its data is mounted, before Galaxy.
{%- from "galaxy/map.jinja" import boot, servers, volumes, has_onedata with context %}

include:
  - galaxy.service.running

{%- for name in boot.services %}
galaxy-boot-services-{{ name }}:
  service.running:
    - name: {{ name | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for suffix in volumes %}
      - test: galaxy-storage{{ suffix }}
      {%- endfor %}
      {%- if has_onedata %}
      - test: galaxy-onedata
      {%- endif %}
    - require_in:
      {%- for name, server in servers.items() %}
      - galaxy: galaxy-service-running{{ server.suffix }}
      {%- endfor %}
{%- endfor %}
