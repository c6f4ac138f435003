# For the master: reactor: [{'salt/minion/*/start': [salt://galaxy/reactor/boot.sls]}]
# A minion chooses its ID. Quoted, it cannot become SLS that the master runs; and the runner checks it.
galaxy-boot:
  runner.galaxy.boot:
    - args:
      - minion: {{ data["id"] | json }}
      - stamp: {{ data["_stamp"] | json }}
      # a failed boot is tried once more, after so many seconds
      - retries: 1
      - pause: 60
