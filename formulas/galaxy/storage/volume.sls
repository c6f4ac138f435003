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
    {%- for key in ["device", "device_timeout", "mapper", "filesystem", "key", "key_timeout", "encrypt"] %}
    - {{ key }}: {{ volume[key] | json }}
    {%- endfor %}
    {%- for key in ["mkfs_options", "mount_options", "discard", "nonempty", "backups", "keep"] %}
    - {{ key }}: {{ volume[key] | json }}
    {%- endfor %}
    {%- for key, value in volume.luks.items() if value is not none %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    - require:
      - pkg: galaxy-storage-package{{ suffix }}
{%- endfor %}
