# The process manager's definition of Galaxy, where galaxy:manage_service asks for it.
{%- from "galaxy/map.jinja" import galaxy, autostart, has_storage with context %}

{%- set mount_point = none %}
{%- if has_storage %}
{%- from "galaxy/storage/map.jinja" import volume with context %}
{%- set mount_point = volume.mount_point %}
{%- endif %}

{%- if galaxy.manage_service %}
{%- if galaxy.manager not in ["supervisord", "systemd"] or not galaxy.config or not galaxy.uwsgi %}
galaxy-service-config-incomplete:
  test.fail_without_changes:
    - name: >-
        galaxy:manage_service needs galaxy:manager (supervisord or systemd), galaxy:config and galaxy:uwsgi in pillar
    - failhard: True
{%- elif galaxy.manager == "supervisord" %}
galaxy-service-config-program:
  file.managed:
    - name: {{ galaxy.program_file }}
    - source: salt://galaxy/service/files/program.conf.jinja
    - template: jinja
    - mode: '0644'
    - makedirs: True
    - context:
        galaxy: {{ galaxy | json }}
        autostart: {{ autostart | json }}
        mount_point: {{ mount_point | json }}
    - watch_in:
      - galaxy: galaxy-service-running
{%- else %}
galaxy-service-config-unit:
  file.managed:
    - name: /etc/systemd/system/{{ galaxy.service or "galaxy" }}.service
    - source: salt://galaxy/service/files/galaxy.service.jinja
    - template: jinja
    - mode: '0644'
    - context:
        galaxy: {{ galaxy | json }}
        autostart: {{ autostart | json }}
        mount_point: {{ mount_point | json }}
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
