include:
  - galaxy.storage.package
  - galaxy.storage.volume
  - galaxy.storage.directories
