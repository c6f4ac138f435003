# Opens and mounts the encrypted volumes with Galaxy's data: state.apply galaxy.storage
{%- from "galaxy/map.jinja" import volumes with context %}

include:
  - galaxy.storage.package
  - galaxy.storage.volume
  - galaxy.storage.directories

{%- for suffix in volumes %}
# states that need only this volume require this one
galaxy-storage{{ suffix }}:
  test.nop:
    - require:
      - luks: galaxy-storage-volume-mounted{{ suffix }}
{%- endfor %}
