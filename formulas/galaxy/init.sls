# Galaxy serves: state.apply galaxy
include:
  - galaxy.service
