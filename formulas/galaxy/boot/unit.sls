# Lets a machine without a Salt master come back by itself: a systemd unit applies galaxy.boot at every boot.
{%- from "galaxy/map.jinja" import boot with context %}

# else a wrong path would be noticed only at the next boot
galaxy-boot-unit-salt-call:
  file.exists:
    - name: {{ boot.salt_call | json }}

galaxy-boot-unit-file:
  file.managed:
    - name: /etc/systemd/system/salt-galaxy-boot.service
    - source: salt://galaxy/boot/files/salt-galaxy-boot.service.jinja
    - template: jinja
    - mode: '0644'
    - context:
        boot: {{ boot | json }}
    - require:
      - file: galaxy-boot-unit-salt-call

galaxy-boot-unit-enabled:
  service.enabled:
    - name: salt-galaxy-boot
    - require:
      - file: galaxy-boot-unit-file

# the unit's old name: Gravity's update deletes every unit that fits galaxy-*.service
galaxy-boot-unit-renamed:
  file.absent:
    - names:
      - /etc/systemd/system/galaxy-boot.service
      - /etc/systemd/system/multi-user.target.wants/galaxy-boot.service
    - require:
      - service: galaxy-boot-unit-enabled
