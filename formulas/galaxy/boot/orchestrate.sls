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

# The minion reports how each step went, but not that there were none: then the master does.
galaxy-boot-{{ minion }}-rendered:
  salt.function:
    - name: state.sls_exists
    - tgt: {{ minion | json }}
    - tgt_type: list
    - arg: [galaxy.boot]
    - onfail:
      - salt: galaxy-boot-{{ minion }}

galaxy-boot-{{ minion }}-unreported:
  salt.runner:
    - name: event.send
    - tag: galaxy/{{ minion }}/failed
    - data:
        id: {{ minion | json }}
        data:
          step: boot
          state: null
          reason: >-
            galaxy.boot cannot be rendered, or {{ minion }} does not answer:
            salt -L {{ minion }} state.show_sls galaxy.boot tells
    - onfail:
      - salt: galaxy-boot-{{ minion }}-rendered
