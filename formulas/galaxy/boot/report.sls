# The master is told how the boot went.
galaxy-boot-report:
  galaxy.reported:
    - order: last
