include:
  - galaxy.service.config
  - galaxy.service.running
