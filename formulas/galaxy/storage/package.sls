{%- from "galaxy/map.jinja" import galaxy with context %}

{%- if galaxy.storage.packages %}
galaxy-storage-package-installed:
  pkg.installed:
    - pkgs: {{ galaxy.storage.packages | json }}
    # the luks module and states are there only where cryptsetup is
    - reload_modules: True
{%- else %}
galaxy-storage-package-installed:
  test.nop
{%- endif %}
