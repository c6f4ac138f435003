# For the master: reactor: [{'salt/minion/*/start': [salt://galaxy/reactor/boot.sls]}]
galaxy-boot-{{ data["id"] }}:
  runner.state.orchestrate:
    - args:
      - mods: galaxy.boot.orchestrate
      - pillar:
          galaxy_boot_minion: {{ data["id"] | json }}
