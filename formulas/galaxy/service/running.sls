# Galaxy runs and accepts requests.
{%- from "galaxy/map.jinja" import galaxy, server with context %}

galaxy-service-running:
  galaxy.running:
    {%- for key, value in server.items() %}
    - {{ key }}: {{ value | json }}
    {%- endfor %}
    {%- for key in ["timeout", "retries", "min_workers", "reload", "force"] %}
    - {{ key }}: {{ galaxy[key] | json }}
    {%- endfor %}
