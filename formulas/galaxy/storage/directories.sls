{%- from "galaxy/map.jinja" import galaxy with context %}
{%- from "galaxy/storage/volume.jinja" import volume with context %}
{%- set storage = galaxy.storage %}

include:
  - galaxy.storage.volume

# after the mount, so it is the root of the volume, not the empty directory below it, that gets the owner
galaxy-storage-directories-root:
  file.directory:
    - name: {{ volume.mount_point | json }}
    - user: {{ storage.user | json }}
    - group: {{ storage.group | json }}
    - mode: {{ storage.mode | json }}
    - require:
      - luks: galaxy-storage-volume-mounted

{%- for directory in storage.directories %}
galaxy-storage-directories-{{ directory }}:
  file.directory:
    - name: {{ (volume.mount_point ~ "/" ~ directory) | json }}
    - user: {{ storage.user | json }}
    - group: {{ storage.group | json }}
    - mode: {{ storage.mode | json }}
    - makedirs: True
    - require:
      - file: galaxy-storage-directories-root
{%- endfor %}
