# A masterless machine comes back by itself: a systemd unit applies galaxy.boot at every boot.
{%- from "galaxy/map.jinja" import boot with context %}

# or it would be missed only at the next boot
galaxy-boot-unit-salt-call:
  file.exists:
    - name: {{ boot.salt_call | json }}

galaxy-boot-unit-file:
  file.managed:
    - name: /etc/systemd/system/galaxy-boot.service
    - source: salt://galaxy/boot/files/galaxy-boot.service.jinja
    - template: jinja
    - mode: '0644'
    - context:
        boot: {{ boot | json }}
    - require:
      - file: galaxy-boot-unit-salt-call

galaxy-boot-unit-enabled:
  service.enabled:
    - name: galaxy-boot
    - require:
      - file: galaxy-boot-unit-file
