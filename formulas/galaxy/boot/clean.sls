# Undoes galaxy.boot.unit. Volumes, services and Galaxy stay as they are.
galaxy-boot-clean-stopped:
  service.dead:
    - name: salt-galaxy-boot
    - enable: False

galaxy-boot-clean-file:
  file.absent:
    - name: /etc/systemd/system/salt-galaxy-boot.service
    - require:
      - service: galaxy-boot-clean-stopped
