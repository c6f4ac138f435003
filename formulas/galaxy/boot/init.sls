# Brings a machine back after a boot: volumes, Onedata, services, Galaxy, a report to the master: state.apply galaxy.boot
include:
  - galaxy.boot.services
  - galaxy
  - galaxy.boot.report
