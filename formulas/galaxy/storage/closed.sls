# Undoes galaxy.storage: Galaxy is stopped, then its volume unmounted and closed. Nothing on the volume changes.
{%- from "galaxy/storage/map.jinja" import volume with context %}

include:
  - galaxy.stopped

galaxy-storage-closed:
  luks.closed:
    - name: {{ volume.mapper | json }}
    - require:
      - sls: galaxy.stopped
