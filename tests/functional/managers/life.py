"""
One life of a service under any process manager. The script runs on the machine that has the manager:

    python life.py CONFIG SOCKET KEYWORDS

KEYWORDS are the keywords of ``detect``, as JSON. Prints, as JSON, what the unit says at each step.
"""

import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "_utils"))

import galaxy_host_address
import galaxy_manager_detection
import galaxy_uwsgi_process
from galaxy_errors import GalaxyError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until


def _functions():
    """Salt's execution functions, which init scripts need."""
    import salt.config
    import salt.loader

    opts = salt.config.minion_config(os.devnull)
    opts.update(root_dir="/tmp", file_client="local")
    opts["grains"] = salt.loader.grains(opts)
    modules = salt.loader.minion_mods(opts)
    return {name: modules[name] for name in ("service.available", "service.status", "service.start", "service.stop")}


def main(config, address, keywords):
    addresses = [galaxy_host_address.parse(address)]
    functions = _functions() if keywords.pop("salt", False) else None

    def detect(**more):
        return galaxy_manager_detection.detect(
            config=config,
            functions=functions,
            own=lambda invocation: galaxy_uwsgi_process.starts(invocation, config),
            **{**keywords, **more},
        )

    def fact(unit):
        status = unit.status()
        return {"state": status.state.value, "active": status.active, "problems": status.problems}

    def find():
        try:
            return galaxy_uwsgi_process.find_master(addresses, config=config)
        except GalaxyError:
            return None

    said = {}
    unit = detect()
    said["manager"], said["service"] = unit.manager, unit.service
    said["commands"] = unit.commands()
    invocation = unit.invocation()
    said["argv"], said["cwd"] = (list(invocation.argv), invocation.cwd) if invocation else (None, None)
    said["environment"] = dict(invocation.environment or {}).get("GALAXY_MARK") if invocation else None
    said["before"] = fact(unit)
    unit.start()
    master = wait_until(find, Deadline(180))
    wait_until(lambda: unit.status().state.value == "running", Deadline(180))
    said["running"] = fact(unit)
    again = detect(master=master)
    said["again"] = [again.manager, again.service]
    said["pids"] = not master.lineage.isdisjoint(again.status().pids)
    said["owns"] = again.owns(master)
    said["owns worker"] = again.owns(galaxy_uwsgi_process.family(master)[0])
    with subprocess.Popen(["sleep", "100"]) as stranger:
        said["owns stranger"] = again.owns(Process.of(stranger.pid))
        stranger.kill()
    said["log"] = " ".join(again.log(200))
    family = galaxy_uwsgi_process.family(master)
    again.stop()
    wait_until(lambda: not any(process.is_alive for process in [master, *family]), Deadline(180))
    said["left"] = [process.pid for process in [master, *family] if process.is_alive]
    said["after"] = fact(unit)
    said["owns after"] = unit.owns(Process.of(os.getpid()))
    said["third"] = repr(detect())
    unit.stop()
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
