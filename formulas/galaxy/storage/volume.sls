{%- from "galaxy/map.jinja" import galaxy with context %}
{%- from "galaxy/storage/volume.jinja" import volume with context %}
{%- set storage = galaxy.storage %}

include:
  - galaxy.storage.package

{%- if storage.generate_key %}
galaxy-storage-volume-key:
  luks.key_file:
    - name: {{ storage.key | json }}
    - require:
      - sls: galaxy.storage.package
    - require_in:
      - luks: galaxy-storage-volume-mounted
{%- endif %}

galaxy-storage-volume-mounted:
  luks.mounted:
    - name: {{ volume.mount_point | json }}
    - device: {{ volume.device | json }}
    - mapper: {{ volume.mapper | json }}
    - filesystem: {{ volume.filesystem | json }}
    - key: {{ storage.key | json }}
    - encrypt: {{ storage.encrypt | json }}
    - mkfs_options: {{ storage.mkfs_options | json }}
    - mount_options: {{ storage.mount_options | json }}
    - discard: {{ storage.discard | json }}
    - backups: {{ storage.backups | json }}
{%- for option, value in storage.luks.items() %}
    - {{ option }}: {{ value | json }}
{%- endfor %}
    - require:
      - sls: galaxy.storage.package
