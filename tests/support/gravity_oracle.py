"""
What the real Gravity makes of configurations. The Python that has Gravity runs this, so it imports nothing of ours.

Reads a list of cases from standard input, each ``{path, environment, directory, root, installed}``. Prints a list of
answers: ``{error}``, or what Gravity loaded, in the same form for each instance.
"""

import importlib
import json
import os
import shlex
import sys
import warnings

import gravity.config_manager
import gravity.process_manager
import gravity.process_manager.supervisor as supervisor
import gravity.process_manager.systemd as systemd
import gravity.state
import gunicorn.config


def load(case):
    """What Gravity loads in one case, by instance."""
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **case["environment"]})
    os.chdir(case["directory"])
    os.geteuid = lambda: 0 if case["root"] else 1000
    gravity.state.galaxy_installed = gravity.config_manager.galaxy_installed = case["installed"]
    # it reads the environment only when it is loaded
    importlib.reload(supervisor)
    # click takes an empty variable as unset
    state_dir = os.environ.get("GRAVITY_STATE_DIR") or None
    manager = gravity.config_manager.ConfigManager(
        config_file=[os.path.realpath(case["path"])], state_dir=state_dir and os.path.realpath(state_dir)
    )
    return {config.instance_name: show(manager, config) for config in manager.get_configs()}


def show(manager, config):
    """The facts of one instance."""
    several = not manager.single_instance
    use_name = several or config.instance_name != "_default_"
    services = []
    for service in config.services:
        members = service.services if isinstance(service, gravity.state.ServiceList) else [service]
        units = systemd.SystemdService(config, service, use_name).unit_names
        programs = supervisor.SupervisorProgram(config, service, use_name).program_names
        for number, member in enumerate(members):
            services.append(
                {
                    "service": service.service_name,
                    "type": member.service_type,
                    "number": number if len(members) > 1 else None,
                    "unit": units[number],
                    "program": programs[number],
                    "start_timeout": service.settings["start_timeout"],
                    "stop_timeout": service.settings["stop_timeout"],
                    "server_name": member.settings.get("server_name"),
                    **run(manager, config, member),
                }
            )
    state_dir = os.path.dirname(supervisor.SupervisorProcessManager(config_manager=manager).supervisor_state_dir)
    return {
        "manager": config.process_manager.value,
        "galaxy_config": config.galaxy_config_file,
        "galaxy_root": config.galaxy_root,
        "virtualenv": config.virtualenv,
        "log_dir": config.log_dir,
        "data_dir": config.gravity_data_dir,
        "state_dir": state_dir,
        "user": config.galaxy_user,
        "group": config.galaxy_group,
        "prefix": config.app_config.get("galaxy_url_prefix"),
        "command_style": config.service_command_style.value,
        "umask": config.umask,
        "log_namespace": config.log_namespace,
        "services": services,
    }


def run(manager, config, service):
    """The command and environment that ``galaxyctl exec`` gives a service; for gunicorn also its settings."""
    executor = gravity.process_manager.ProcessExecutor(config_manager=manager)
    style, config.service_command_style = config.service_command_style, gravity.state.ServiceCommandStyle.exec
    values = executor._service_format_vars(config, service)
    config.service_command_style = style
    environment = values["environment"]
    answer = {"environment": environment}
    if service.service_type == "gunicorn":
        if os.path.isdir(values["galaxy_root"]):
            os.chdir(values["galaxy_root"])
        for key in ("GUNICORN_CMD_ARGS", "PORT", "WEB_CONCURRENCY"):
            if key in environment:
                os.environ[key] = environment[key]
        settings = gunicorn.config.Config()
        parser = settings.parser()
        given = {}
        # in the order of gunicorn.app.base.Application.load_config
        for found in (
            parser.parse_args(settings.get_cmd_args_from_env()),
            parser.parse_args(shlex.split(values["command"])[1:]),
        ):
            given.update({key: value for key, value in vars(found).items() if key != "args" and value is not None})
        for key, value in given.items():
            settings.set(key.lower(), value)
        if "chdir" in given:
            os.chdir(settings.chdir)
        binds = [one for one in settings.address if not isinstance(one, int)]
        answer["binds"] = [os.path.abspath(one) if isinstance(one, str) else list(one) for one in binds]
        answer.update(workers=settings.workers, timeout=settings.timeout, preload=settings.preload_app)
    return answer


def answer(case):
    """The answer for one case, from a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        try:
            found = load(case)
        except BaseException as exc:
            found = {"error": f"{type(exc).__name__}: {exc}"}
        with open(writer, "w") as pipe:
            json.dump(found, pipe)
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        found = json.load(pipe)
    os.waitpid(child, 0)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.argv[0] = "/bin/galaxyctl"
    json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)
