# What the volumes need is installed; the luks module and states are there only where cryptsetup is.
{%- from "galaxy/map.jinja" import volumes with context %}

include:
  - galaxy.settings

{%- for suffix, volume in volumes.items() %}
galaxy-storage-package{{ suffix }}:
  pkg.installed:
    - pkgs: {{ volume.packages | json }}
    - reload_modules: true
    - require:
      - galaxy: galaxy-settings
{%- endfor %}
