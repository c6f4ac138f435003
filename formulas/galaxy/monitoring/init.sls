# Makes a schedule of the minion, which writes metrics for node_exporter's textfile collector: state.apply galaxy.monitoring
{%- from "galaxy/map.jinja" import monitoring with context %}

include:
  - galaxy.settings

{%- if monitoring and monitoring.metrics %}
galaxy-monitoring-metrics:
  schedule.present:
    - name: galaxy-metrics
    - function: galaxy.metrics
    - job_kwargs:
        path: {{ monitoring.metrics | json }}
    - seconds: {{ monitoring.interval }}
    - maxrunning: 1
    - return_job: False
    - require:
      - galaxy: galaxy-settings
{%- elif monitoring %}
galaxy-monitoring-metrics:
  schedule.absent:
    - name: galaxy-metrics
    - require:
      - galaxy: galaxy-settings
{%- endif %}
