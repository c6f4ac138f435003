"""Metrics, read by Prometheus' own parsers."""

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as older
from support.answers import down, status, workers
from support.site import REPO

import galaxy_metrics

ODD = 'a "b"\\\nc'


def _read(text):
    """The samples by name and labels. Text that is not OpenMetrics raises an error."""
    families = list(openmetrics(text))
    assert all(family.documentation and family.name.startswith("galaxy_") for family in families)
    assert {sample.labels["server"] for family in families for sample in family.samples} != {""}
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_all_that_is_known_is_told():
    services = {
        "gunicorn": {"role": "web", "state": "running", "pids": [3], "restarts": 2},
        "celery": {"role": "celery", "state": "failed", "pids": [], "restarts": None},
    }
    facts = {"oldest_request": 1.5, "web_server": "gunicorn", "galaxy_version": {"running": "25.0", "on_disk": "25.1"}}
    one = status(workers=workers(idle=1, busy=3), services=services, problems=["x"], **facts)
    found = _read(galaxy_metrics.text({"main": one}, now=12.5))
    expected = {
        ("galaxy_look_success", "main"): 1,
        ("galaxy_look_timestamp_seconds", "main"): 12.5,
        ("galaxy_running", "main"): 1,
        ("galaxy_ready", "main"): 1,
        ("galaxy_workers", "main", "busy"): 3,
        ("galaxy_ready_workers", "main"): 2,
        ("galaxy_oldest_request_seconds", "main"): 1.5,
        ("galaxy_uptime_seconds", "main"): 7300,
        ("galaxy_problems", "main"): 1,
        ("galaxy_version_info", "main", "gunicorn", "2.0.30", "25.0", "25.1"): 1,
        ("galaxy_listen_queue_connections", "main"): 0,
        ("galaxy_listen_queue_limit_connections", "main"): 100,
        ("galaxy_listen_queue_errors_total", "main"): 0,
        ("galaxy_service_running", "main", "gunicorn", "web"): 1,
        ("galaxy_service_running", "main", "celery", "celery"): 0,
        ("galaxy_service_restarts_total", "main", "gunicorn", "web"): 2,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert len(found) == len(expected) + 6


def test_what_is_not_known_has_no_sample():
    found = _read(galaxy_metrics.text({"main": down(running=None, ready=None), "bad": "ERROR: pillar"}))
    names = {name for name, *_ in found}
    assert {("galaxy_look_success", "bad"), ("galaxy_look_success", "main")} <= set(found)
    assert found["galaxy_look_success", "bad"] == 0
    assert not names & {"galaxy_running", "galaxy_ready", "galaxy_uptime_seconds", "galaxy_listen_queue_connections"}
    assert galaxy_metrics.text({}) == "# EOF\n"


@pytest.mark.parametrize("parser", [openmetrics, older])
def test_both_formats_read_names_of_any_kind(parser):
    text = galaxy_metrics.text({ODD: status(version=ODD)})
    samples = [sample for family in parser(text) for sample in family.samples]
    assert {sample.labels["server"] for sample in samples} == {ODD}
    (info,) = [sample for sample in samples if sample.name == "galaxy_version_info"]
    assert info.labels["web_server_version"] == ODD


def test_units_end_the_names():
    for line in galaxy_metrics.text({"main": status(oldest_request=1)}).splitlines():
        if line.startswith("# UNIT"):
            _, _, name, unit = line.split()
            assert name.endswith(f"_{unit}")


def test_there_are_as_many_series_whatever_is_under_way():
    few, many = (status(workers=workers(busy=count), oldest_request=count) for count in (1, 10_000))
    assert len(_read(galaxy_metrics.text({"m": few}))) == len(_read(galaxy_metrics.text({"m": many})))


@pytest.mark.parametrize("name", ["galaxy-alerts.yml", "galaxy-dashboard.json"])
def test_what_the_docs_ask_for_is_told(name):
    facts = {"oldest_request": 1.5, "services": {"celery": {"role": "celery", "state": "running", "restarts": 2}}}
    told = {found for found, *_ in _read(galaxy_metrics.text({"main": status(**facts)}))}
    asked = set(re.findall(r"galaxy_[a-z_]+", (REPO / "docs" / "monitoring" / name).read_text()))
    assert asked
    assert asked <= told
