# Undoes galaxy.boot.unit.
galaxy-boot-clean-disabled:
  service.disabled:
    - name: galaxy-boot

galaxy-boot-clean-file:
  file.absent:
    - name: /etc/systemd/system/galaxy-boot.service
    - require:
      - service: galaxy-boot-clean-disabled
