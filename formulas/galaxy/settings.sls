# Pillar is right: all other states of the formula are there only where this one succeeds.
galaxy-settings:
  galaxy.settings
