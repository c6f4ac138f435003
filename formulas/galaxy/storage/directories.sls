# The volume's root and the directories on it belong to Galaxy.
{%- from "galaxy/storage/map.jinja" import storage, volume, owner with context %}

include:
  - galaxy.storage.volume

{%- for directory in [""] + storage.directories %}
galaxy-storage-directory-{{ directory or "root" }}:
  file.directory:
    - name: {{ (volume.mount_point ~ "/" ~ directory).rstrip("/") | json }}
    {%- for key, value in owner.items() %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    - makedirs: true
    - require:
      - luks: galaxy-storage-volume-mounted
{%- endfor %}
