"""
Onedata spaces on this machine, mounted by ``oneclient``
=========================================================

Spaces are declared by name in ``galaxy:onedata`` (pillar, grains or minion configuration):

.. code-block:: yaml

    galaxy:
      onedata:
        spaces:
          userdata:
            provider_host: provider.example.org
            access_token: MDAxNWxvY…            # in pillar, plain or GPG-rendered
            mount_point: /onedata/userdata
            uid: galaxy
            gid: galaxy
        ini: /etc/galaxy/onedatactl.ini        # spaces of the scripts before this tree; the ones above win

``token`` in place of ``access_token`` names the place of the token: ``sdb://profile/key``, ``pillar://path:to:it``, or
the path of a file, mode 0600. No function takes a token itself: Salt keeps arguments in the job cache.

:depends: oneclient
"""

from __future__ import annotations

from salt.exceptions import SaltInvocationError

import galaxy_host_key
import onedata_mount
import onedata_space
from galaxy_host_secret import Secret
from onedata_space import Space

__virtualname__ = "onedata"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __pillar__: dict


def __virtual__():
    return __virtualname__


def spaces():
    """
    The names of the declared spaces.

    Returns a list. Raises ``CommandExecutionError`` where the old INI cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.spaces
    """
    return list(_declared())


def status(name=None):
    """
    How the declared spaces are.

    name
        one space alone

    Returns a mapping, by name where none is given: ``mounted``, ``alive`` (``False`` also for a mount whose process has
    ended, "Transport endpoint is not connected", or hangs, and for what is not Onedata), ``problem`` (why not),
    ``provider_host``, ``mount_point``, ``fstype``, ``source``, ``options`` (of the mount).

    Raises ``CommandExecutionError`` where a declaration is wrong, ``SaltInvocationError`` for an unknown name.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.status
        salt '*' onedata.status userdata
    """
    if name is not None:
        return _status(_space(name))
    return {each: _status(_space(each)) for each in _declared()}


def mount(name, timeout=onedata_mount.TIMEOUT, test=False):
    """
    Mount a space; a dead mount of it is taken away first.

    name
        of the space
    timeout
        seconds until the mount answers. A token's database that fails is asked again, and a mount that hangs is waited
        for, for as long
    test
        change nothing; ``changed`` says whether it would be

    Returns what :py:func:`status` returns, and ``changed``. Raises ``CommandExecutionError`` where something else is
    mounted there, files lie there (without ``nonempty``), or oneclient fails, with its own words.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.mount userdata
    """
    space, seconds = _space(name), _seconds(timeout)
    if test:
        changed = not onedata_mount.require_mountable(space).alive
    else:
        changed = onedata_mount.mount(space, _token(name, seconds), seconds)
    return {**_status(space), "changed": changed}


def unmount(name, lazy=False, test=False):
    """
    Unmount a space.

    name
        of the space
    lazy
        detach it even while it is in use (``umount --lazy``); a dead mount is always detached so
    test
        change nothing; ``changed`` says whether it would be

    Returns what :py:func:`status` returns, and ``changed``. Raises ``CommandExecutionError`` where it is busy, naming
    the processes.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.unmount userdata
    """
    space = _space(name)
    changed = onedata_mount.require_unmountable(space).mounted if test else onedata_mount.unmount(space, lazy)
    return {**_status(space), "changed": changed}


def version():
    """
    The version of ``oneclient``.

    Raises ``CommandExecutionError`` where it is not installed.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.version
    """
    return onedata_mount.version()


def _declared() -> dict[str, tuple[dict, Secret | None]]:
    """By name: settings, and a token that the old INI has."""
    found = {}
    path = __salt__["config.get"]("galaxy:onedata:ini", None)
    if path:
        found.update(onedata_space.read_ini(path))
    spaces = __salt__["config.get"]("galaxy:onedata:spaces", {})
    if not isinstance(spaces, dict) or not all(isinstance(each, dict) for each in spaces.values()):
        raise SaltInvocationError("galaxy:onedata:spaces must be a mapping of names to spaces; see pillar.example")
    found.update({name: (settings, None) for name, settings in spaces.items()})
    return found


def _space(name) -> Space:
    settings, _ = _find(name)
    return onedata_space.of(
        name, {key: value for key, value in settings.items() if key not in ("access_token", "token")}
    )


def _token(name, timeout: float) -> Secret:
    settings, token = _find(name)
    if token:
        return token
    source = settings.get("token") or f"pillar://galaxy:onedata:spaces:{name}:access_token"
    found = galaxy_host_key.resolve(source, __salt__, __pillar__, f"Onedata space {name}", "token", timeout)
    # a token file ends in a newline, a token does not
    return Secret(found.reveal().strip())


def _find(name):
    declared = _declared()
    if not isinstance(name, str) or name not in declared:
        known = ", ".join(declared) or "none"
        raise SaltInvocationError(f"No Onedata space {name!r} is declared in galaxy:onedata:spaces; known: {known}")
    return declared[name]


def _status(space: Space) -> dict:
    state = onedata_mount.look(space)
    return {
        **{"mounted": state.mounted, "alive": state.alive, "problem": state.problem},
        **{"provider_host": space.provider_host, "mount_point": space.mount_point},
        **{"fstype": state.fstype, "source": state.source, "options": state.options},
    }


def _seconds(timeout) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise SaltInvocationError(f"timeout is {timeout!r}; give a positive number of seconds")
    return float(timeout)
