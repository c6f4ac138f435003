# For the master: reactor: [{'salt/minion/*/start': [salt://galaxy/reactor/boot.sls]}]
# The ID is what a minion says; quoted, it cannot become SLS that the master runs, and the runner checks it.
galaxy-boot:
  runner.galaxy.boot:
    - args:
      - minion: {{ data["id"] | json }}
      - stamp: {{ data["_stamp"] | json }}
      # a boot that failed is tried once more, after so many seconds
      - retries: 1
      - pause: 60
