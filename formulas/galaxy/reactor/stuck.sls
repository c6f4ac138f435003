# An example: restarts a stuck Galaxy, if the master's reactor names it for 'salt/beacon/*/galaxy/stuck'.
galaxy-restart:
  runner.galaxy.restart:
    - args:
      - minion: {{ data["id"] | json }}
      - stamp: {{ data["_stamp"] | json }}
