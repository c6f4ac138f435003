# An example, used only where the master's reactor names it for 'salt/beacon/*/galaxy/stuck': restart a stuck Galaxy.
galaxy-restart:
  runner.galaxy.restart:
    - args:
      - minion: {{ data["id"] | json }}
      - stamp: {{ data["_stamp"] | json }}
