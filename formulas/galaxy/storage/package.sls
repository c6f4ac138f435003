# What the volume needs is installed; the luks module and states are there only where cryptsetup is.
{%- from "galaxy/storage/map.jinja" import storage with context %}

galaxy-storage-package:
  pkg.installed:
    - pkgs: {{ storage.packages | json }}
    - reload_modules: true
