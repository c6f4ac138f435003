# The process manager's definition of Galaxy, where galaxy:manage_service asks for it.
{%- from "galaxy/map.jinja" import galaxy with context %}

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
    - watch_in:
      - galaxy: galaxy-service-running

galaxy-service-config-boot:
  service.{{ "enabled" if galaxy.autostart else "disabled" }}:
    - name: {{ galaxy.service or "galaxy" }}
    - require:
      - file: galaxy-service-config-unit
    - require_in:
      - galaxy: galaxy-service-running
{%- endif %}
{%- endif %}
