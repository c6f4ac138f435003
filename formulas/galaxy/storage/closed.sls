# Undoes galaxy.storage: stops Galaxy, then unmounts and closes its volumes. Nothing on a volume changes.
{%- from "galaxy/map.jinja" import volumes, servers with context %}

include:
  - galaxy.stopped

{%- for suffix, volume in volumes.items() %}
galaxy-storage-closed{{ suffix }}:
  luks.closed:
    - name: {{ volume.mapper | json }}
    - require:
      - galaxy: galaxy-settings
      {%- for name, server in servers.items() if suffix in server.storages | map(attribute="suffix") %}
      - galaxy: galaxy-stopped{{ server.suffix }}
      {%- endfor %}
{%- endfor %}
