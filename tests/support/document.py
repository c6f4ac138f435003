"""uWSGI's stats document, made by hand: for states that a real server is rarely in."""


def core(in_request=0, variables=(), **req_info):
    return {
        "id": 0,
        "requests": 1,
        "in_request": in_request,
        "vars": [*variables, ""] if variables else [],
        "req_info": req_info,
    }


def worker(status="idle", pid=1234, accepting=1, cores=(), apps=({"id": 0},), **more):
    found = {
        "id": 1,
        "pid": pid,
        "accepting": accepting,
        "requests": 3,
        "exceptions": 0,
        "harakiri_count": 0,
        "status": status,
        "rss": 0,
        "vsz": 0,
        "running_time": 10,
        "last_spawn": 1_700_000_000,
        "respawn_count": 1,
        "tx": 5,
        "avg_rt": 7,
        "apps": list(apps),
    }
    if cores is not None:
        found["cores"] = list(cores) or [core(), core()]
    return {**found, **more}


def document(workers, **more):
    return {
        "version": "2.0.30",
        "listen_queue": 0,
        "listen_queue_errors": 0,
        "pid": 1000,
        "sockets": [{"name": "127.0.0.1:4001", "queue": 0, "max_queue": 100}],
        "workers": list(workers),
        **more,
    }
