# A machine that booted comes back: volume, Onedata, services, Galaxy, and the master is told: state.apply galaxy.boot
include:
  - galaxy.boot.services
  - galaxy
  - galaxy.boot.report
