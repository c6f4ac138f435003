"""What ``galaxy.status`` returns, for tests of the code that reads it."""

WORKERS = ("not_accepting", "idle", "busy", "saturated", "cheap", "paused", "stuck")


def status(**facts):
    """The status of a ready Galaxy with two workers, changed by ``facts``."""
    common = {
        **{"server": "galaxy", "running": True, "accepting": True, "ready": True, "ready_workers": 2, "pid": 7},
        **{"uptime": 7300, "version": "2.0.30", "workers": workers(idle=2), "manager": None, "config": "/srv/g.yml"},
        **{"listen_queue": {"length": 0, "max": 100, "errors": 0}, "sockets": [], "stats": None, "problems": []},
    }
    return {**common, **facts}


def down(**facts):
    nothing = {"pid": None, "uptime": None, "version": None, "listen_queue": None, "problems": ["connection refused"]}
    states = {"running": False, "accepting": False, "ready": False, "ready_workers": 0}
    return status(**{**nothing, **states, "workers": workers(), **facts})


def workers(**counts):
    return {"total": sum(counts.values()), **dict.fromkeys(WORKERS, 0), **counts}
