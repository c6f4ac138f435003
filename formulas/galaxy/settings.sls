# Checks pillar. The formula has other states only if this one succeeds.
galaxy-settings:
  galaxy.settings:
    - digest: {{ salt["galaxy.settings"](values_only=True).digest }}
