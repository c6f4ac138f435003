# Galaxy's data is on an encrypted volume, opened and mounted: state.apply galaxy.storage
include:
  - galaxy.storage.package
  - galaxy.storage.volume
  - galaxy.storage.directories

# Salt 3006 takes `require: sls: galaxy.storage` as met, whatever became of what is included, unless there is a state here
galaxy-storage:
  test.nop:
    - require:
      - sls: galaxy.storage.directories
