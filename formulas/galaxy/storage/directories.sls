# Gives the root of each volume, and the directories on it, to Galaxy's user.
{%- from "galaxy/map.jinja" import volumes with context %}

include:
  - galaxy.storage.volume

{%- for suffix, volume in volumes.items() %}
{%- for directory in [""] + volume.directories %}
galaxy-storage-directory{{ suffix }}-{{ directory or "root" }}:
  galaxy.directory:
    - name: {{ (volume.mount_point ~ "/" ~ directory).rstrip("/") | json }}
    {%- for key in ["user", "group", "mode"] %}
    - {{ key }}: {{ volume[key] | json }}
    {%- endfor %}
    - require:
      - luks: galaxy-storage-volume-mounted{{ suffix }}
    - require_in:
      - test: galaxy-storage{{ suffix }}
{%- endfor %}
{%- endfor %}
