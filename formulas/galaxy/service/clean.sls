# Undoes galaxy.service: Galaxy is stopped, and the definition that the formula wrote is removed.
{%- from "galaxy/map.jinja" import galaxy with context %}

include:
  - galaxy.stopped

{%- if galaxy.manage_service %}
{%- if galaxy.manager == "systemd" %}
galaxy-service-clean-boot:
  service.disabled:
    - name: {{ galaxy.service or "galaxy" }}
    - require:
      - galaxy: galaxy-stopped
{%- endif %}

galaxy-service-clean-file:
  file.absent:
    {%- if galaxy.manager == "systemd" %}
    - name: /etc/systemd/system/{{ galaxy.service or "galaxy" }}.service
    {%- else %}
    - name: {{ galaxy.program_file }}
    {%- endif %}
    - require:
      - galaxy: galaxy-stopped
{%- endif %}
