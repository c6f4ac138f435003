# The volume is open and mounted.
{%- from "galaxy/storage/map.jinja" import storage, volume with context %}

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
    {%- for key in ["device", "mapper", "filesystem"] %}
    - {{ key }}: {{ volume[key] | json }}
    {%- endfor %}
    {%- for key in ["key", "key_timeout", "encrypt", "mkfs_options", "mount_options", "discard", "backups"] %}
    - {{ key }}: {{ storage[key] | json }}
    {%- endfor %}
    {%- for key, default in [("device_timeout", 120), ("nonempty", "refuse"), ("keep", none)] %}
    - {{ key }}: {{ storage.get(key, default) | json }}
    {%- endfor %}
    {%- for key, value in storage.luks.items() %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    - require:
      - sls: galaxy.storage.package
