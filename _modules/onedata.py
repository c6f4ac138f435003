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
        ini: /etc/galaxy/onedatactl.ini        # spaces of the scripts before this tree; those above win

``token`` in place of ``access_token`` names the place of the token: ``sdb://profile/key``, ``pillar://path:to:it``, or
the path of a file, mode 0600. No function takes a token itself: Salt keeps arguments in the job cache.

:depends: oneclient
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False

if sys.platform.startswith("linux"):
    import galaxy_host_later

    galaxy_host_later.drop_outdated()

    import galaxy_host_arguments as arguments
    import galaxy_host_progress
    import onedata_mount
    from galaxy_host_later import Later

    if TYPE_CHECKING:
        import onedata_declared
    else:
        onedata_declared = Later("onedata_declared")

    _TIMEOUT = onedata_mount.TIMEOUT
else:
    # a default of functions that nobody is offered
    _TIMEOUT = 0

__virtualname__ = "onedata"

if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __pillar__: dict


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "onedata: Onedata spaces are mounted on Linux only"
    return __virtualname__


def spaces():
    """
    The names of the declared spaces.

    Returns a list. Raises ``CommandExecutionError`` where the old INI cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.spaces
    """
    return _declared().names()


def status(name=None):
    """
    The state of the declared spaces.

    name : str
        one space alone

    Returns a mapping, without ``name`` one for each space by its name: ``mounted``, ``alive`` (``False`` also for a
    mount whose process has ended, "Transport endpoint is not connected", or hangs, and for a mount that is not
    Onedata's), ``problem`` (why not), ``provider_host``, ``mount_point``, ``fstype``, ``source``, ``options`` (of the
    mount). Without ``name``, a space that is declared wrongly has its ``problem``, with ``None`` for ``mounted`` and
    ``alive``; so has the old INI, by its path, where it cannot be read.

    Raises ``CommandExecutionError`` where the declaration of the one space is wrong, ``SaltInvocationError`` for an
    unknown name.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.status
        salt '*' onedata.status userdata
    """
    if name is None:
        return _declared().statuses()
    return onedata_mount.status(_declared().space(name))


def mount(name, timeout=_TIMEOUT, test=False):
    """
    Mount a space; a dead mount of it is detached first.

    name : str
        the space's name
    timeout : float = 60
        seconds until the mount answers. A token's database that fails is asked again, and a mount that hangs is waited
        for, for as long
    test : bool = False
        change nothing; ``changed`` says whether it would be

    Returns what :py:func:`status` returns, and ``changed``. Raises ``CommandExecutionError`` where something else is
    mounted there, files lie there (without ``nonempty``), another user than root could put something else in the place
    of the mount point, or oneclient fails, with oneclient's message.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.mount userdata
    """
    declared, seconds = _declared(), arguments.seconds("timeout", timeout)
    space = declared.space(name)
    if test:
        changed = not onedata_mount.require_mountable(space).alive
        if changed:
            # what the run would ask for too
            onedata_mount.version()
            declared.token(name, __salt__, __pillar__, 0)
    else:
        with galaxy_host_progress.told("onedata.mount", __opts__, __salt__):
            changed = onedata_mount.mount(space, declared.token(name, __salt__, __pillar__, seconds), seconds)
    return {**onedata_mount.status(space), "changed": changed}


def unmount(name, lazy=False, test=False):
    """
    Unmount a space.

    name : str
        the space's name
    lazy : bool = False
        detach it even while it is in use (``umount --lazy``); a dead mount is always detached so
    test : bool = False
        change nothing; ``changed`` says whether it would be

    Returns what :py:func:`status` returns, and ``changed``. Raises ``CommandExecutionError`` where it is busy, naming
    the processes.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.unmount userdata
    """
    space = _declared().space(name)
    changed = onedata_mount.require_unmountable(space).mounted if test else onedata_mount.unmount(space, lazy)
    return {**onedata_mount.status(space), "changed": changed}


def version():
    """
    The version of ``oneclient``.

    Returns it as a text. Raises ``CommandExecutionError`` where it is not installed.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.version
    """
    return onedata_mount.version()


def _declared() -> onedata_declared.Declared:
    return onedata_declared.Declared(__salt__["config.get"])
