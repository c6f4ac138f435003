# An example, used only where the master's reactor names it for 'salt/beacon/*/galaxy/stuck': restart a stuck Galaxy.
galaxy-restart:
  local.state.apply:
    - tgt: [{{ data["id"] | json }}]
    - tgt_type: list
    - args:
      - mods: galaxy.restarted
      - queue: True
