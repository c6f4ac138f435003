# Installs what the volumes need. The luks module and states load only if cryptsetup is installed.
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
