"""
Find out whether the code and the configuration on disk load: load Galaxy's application once on trial.

Galaxy's own Python does this, as Galaxy's user, in the same way as gunicorn's master does with ``preload``. Nothing is
started that only a worker runs, such as threads that look for jobs, and no database is migrated.
"""

import json

from galaxy_errors import CommandError, ProcessError
from galaxy_gravity_command import Commands
from galaxy_host_redaction import blank, printable

_MAX_TEXT = 300
# output of Galaxy goes elsewhere
_SCRIPT = """
import os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path[:] = [path for path in sys.path if path]
sys.argv[:] = ["gunicorn", "--preload"]
os.environ["SERVER_SOFTWARE"] = "gunicorn"
os.environ["GALAXY_CONFIG_OVERRIDE_DATABASE_AUTO_MIGRATE"] = "false"
import json, traceback

found = {}
try:
    import galaxy.web_stack.gunicorn_config
    from galaxy.webapps.galaxy.workers import Worker
    from galaxy.webapps.galaxy.fast_factory import factory

    factory()
except BaseException as exc:
    last = traceback.extract_tb(exc.__traceback__)[-1]
    where = (exc.filename, exc.lineno) if isinstance(exc, SyntaxError) else (last.filename, last.lineno)
    found = {"kind": type(exc).__name__, "text": getattr(exc, "msg", None) or str(exc), "where": "%s:%s" % where}
json.dump(found, answer)
answer.flush()
os._exit(0)
"""


def require_loadable(commands: Commands, timeout: float) -> None:
    """
    Load Galaxy's application once, within ``timeout`` seconds.

    Raises ``ProcessError``, with the reason, if it does not load. Raises ``ConfigError`` or ``FileError`` if Galaxy's
    Python is not there, or cannot be trusted.
    """
    try:
        answer = json.loads(commands.python(_SCRIPT, timeout=timeout))
        error = [printable(blank(str(answer[key])[:_MAX_TEXT])) for key in ("kind", "text", "where")] if answer else []
    except CommandError as exc:
        raise ProcessError(f"Galaxy's application could not be loaded on trial: {exc}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ProcessError(
            "Galaxy's application could not be loaded on trial: Galaxy's Python ended without an answer; see, as "
            f"{commands.account.name}, whether it imports galaxy.webapps.galaxy.fast_factory"
        ) from None
    if error:
        kind, text, where = error
        raise ProcessError(f"Galaxy's application does not load: {kind}: {text} ({where})")
