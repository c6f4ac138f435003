# Galaxy serves: state.apply galaxy
include:
  - galaxy.settings
  - galaxy.service
