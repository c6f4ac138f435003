# Pillar is right: all other states of the formula are there only where this one succeeds.
galaxy-settings:
  galaxy.settings:
    - digest: {{ salt["galaxy.settings"](values_only=True).digest }}
