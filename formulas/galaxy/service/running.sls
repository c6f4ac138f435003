# Galaxy runs and accepts requests, with its data where pillar has storage or Onedata spaces.
{%- from "galaxy/map.jinja" import galaxy, server, has_storage, has_onedata with context %}
{%- if has_storage %}
{%- from "galaxy/storage/map.jinja" import volume with context %}
{%- endif %}

{%- if has_storage or has_onedata %}
include:
  {%- if has_storage %}
  - galaxy.storage
  {%- endif %}
  {%- if has_onedata %}
  - galaxy.onedata
  {%- endif %}
{%- endif %}

galaxy-service-running:
  galaxy.running:
    {%- for key, value in server.items() %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    {%- for key in ["timeout", "retries", "min_workers", "force"] %}
    - {{ key }}: {{ galaxy[key] | json }}
    {%- endfor %}
    {%- if has_storage %}
    - mounts: {{ [volume.mount_point] | json }}
    {%- endif %}
    {%- if has_storage or has_onedata %}
    - require:
      {%- if has_storage %}
      - sls: galaxy.storage
      {%- endif %}
      {%- if has_onedata %}
      - sls: galaxy.onedata
      {%- endif %}
    {%- endif %}
