# Galaxy's data is on encrypted volumes, opened and mounted: state.apply galaxy.storage
{%- from "galaxy/map.jinja" import volumes with context %}

include:
  - galaxy.storage.package
  - galaxy.storage.volume
  - galaxy.storage.directories

{%- for suffix in volumes %}
# what needs this volume alone requires this state
galaxy-storage{{ suffix }}:
  test.nop:
    - require:
      - luks: galaxy-storage-volume-mounted{{ suffix }}
{%- endfor %}
