# Each Galaxy runs and is ready. If pillar has volumes or Onedata spaces, they are mounted first.
{%- from "galaxy/map.jinja" import servers, volumes, has_onedata with context %}

include:
  - galaxy.settings
  {%- if volumes %}
  - galaxy.storage
  {%- endif %}
  {%- if has_onedata %}
  - galaxy.onedata
  {%- endif %}

{%- for name, server in servers.items() %}
galaxy-service-running{{ server.suffix }}:
  galaxy.running:
    - server: {{ name | json }}
    - mounts: {{ server.mounts | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for storage in server.storages %}
      - test: galaxy-storage{{ storage.suffix }}
      {%- endfor %}
      {%- if has_onedata %}
      - test: galaxy-onedata
      {%- endif %}
{%- endfor %}
