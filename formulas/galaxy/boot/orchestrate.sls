# Run by the master for one minion that started; nothing happens unless it has the role, in pillar or as a grain.
{%- set minion = pillar.galaxy_boot_minion %}

galaxy-boot-{{ minion }}:
  salt.state:
    - tgt: 'L@{{ minion }} and ( I@galaxy:boot:enabled:True or G@roles:galaxy )'
    - tgt_type: compound
    - sls: galaxy.boot
    # a minion that starts twice boots twice, one after the other
    - queue: True
    - expect_minions: False
