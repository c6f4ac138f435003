# Each volume is open and mounted.
{%- from "galaxy/map.jinja" import volumes with context %}

include:
  - galaxy.storage.package

{%- for suffix, volume in volumes.items() %}
{%- if volume.generate_key %}
galaxy-storage-volume-key{{ suffix }}:
  luks.key_file:
    - name: {{ volume.key | json }}
    - require:
      - pkg: galaxy-storage-package{{ suffix }}
    - require_in:
      - luks: galaxy-storage-volume-mounted{{ suffix }}
{%- endif %}

galaxy-storage-volume-mounted{{ suffix }}:
  luks.mounted:
    - name: {{ volume.mount_point | json }}
    {%- for key in ["device", "mapper", "filesystem", "key", "key_timeout", "encrypt", "mkfs_options", "mount_options", "discard", "backups"] %}
    - {{ key }}: {{ volume[key] | json }}
    {%- endfor %}
    {%- for key, value in volume.luks.items() if value is not none %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    - require:
      - pkg: galaxy-storage-package{{ suffix }}
{%- endfor %}
