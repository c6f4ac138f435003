# The process manager's definition of Galaxy, where galaxy:manage_service asks for it.
{%- from "galaxy/map.jinja" import galaxy, autostart with context %}

{%- if galaxy.manage_service %}
include:
  - galaxy.service.running

{%- set complete = galaxy.config and galaxy.uwsgi and ":" not in (galaxy.service or "") %}
{%- set placed = galaxy.manager == "systemd" or (galaxy.manager == "supervisord" and galaxy.program_file) %}
{%- if not (complete and placed) %}
galaxy-service-config-incomplete:
  test.fail_without_changes:
    - name: >-
        galaxy:manage_service needs galaxy:manager (supervisord, with galaxy:program_file, or systemd), galaxy:config and
        galaxy:uwsgi in pillar, and in galaxy:service a name without a group
    - require_in:
      - galaxy: galaxy-service-running
{%- elif galaxy.manager == "supervisord" %}
galaxy-service-config-program:
  file.managed:
    - name: {{ galaxy.program_file }}
    - source: salt://galaxy/service/files/program.conf.jinja
    - template: jinja
    {%- if galaxy.environment %}
    # what the environment holds may be a secret
    - mode: '0600'
    - show_changes: False
    {%- else %}
    - mode: '0644'
    {%- endif %}
    - makedirs: True
    - watch_in:
      - galaxy: galaxy-service-running
{%- else %}
galaxy-service-config-unit:
  file.managed:
    - name: /etc/systemd/system/{{ galaxy.service or "galaxy" }}.service
    - source: salt://galaxy/service/files/galaxy.service.jinja
    - template: jinja
    {%- if galaxy.environment %}
    # what the environment holds may be a secret
    - mode: '0600'
    - show_changes: False
    {%- else %}
    - mode: '0644'
    {%- endif %}
    - watch_in:
      - galaxy: galaxy-service-running

galaxy-service-config-boot:
  service.{{ "enabled" if autostart else "disabled" }}:
    - name: {{ galaxy.service or "galaxy" }}
    - require:
      - file: galaxy-service-config-unit
    - require_in:
      - galaxy: galaxy-service-running
{%- endif %}
{%- endif %}
