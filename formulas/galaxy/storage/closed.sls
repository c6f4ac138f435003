{%- from "galaxy/storage/volume.jinja" import volume with context %}

galaxy-storage-closed:
  luks.closed:
    - name: {{ volume.mapper | json }}
