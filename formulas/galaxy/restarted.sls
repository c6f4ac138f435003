# Each Galaxy is restarted now, whatever state it is in: state.apply galaxy.restarted
{%- from "galaxy/map.jinja" import servers, volumes with context %}

include:
  - galaxy.settings

{%- for name, server in servers.items() %}
{%- set mounts = [] %}
{%- for storage in server.storages %}
{%- do mounts.append(volumes[storage.suffix].mount_point) %}
{%- endfor %}
galaxy-restarted{{ server.suffix }}:
  galaxy.restarted:
    - server: {{ name | json }}
    - mounts: {{ mounts | json }}
    - require:
      - galaxy: galaxy-settings
{%- endfor %}
