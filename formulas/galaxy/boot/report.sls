# Tells the master how the boot went.
galaxy-boot-report:
  galaxy.reported:
    - order: last
