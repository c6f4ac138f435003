# Galaxy's data is on an encrypted volume, opened and mounted: state.apply galaxy.storage
include:
  - galaxy.storage.package
  - galaxy.storage.volume
  - galaxy.storage.directories
