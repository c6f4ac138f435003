"""
Mount Onedata spaces on this machine, with ``oneclient``
========================================================

Spaces are declared by name in ``galaxy:onedata`` (pillar, grains or minion configuration):

.. code-block:: yaml

    galaxy:
      onedata:
        spaces:
          userdata:
            provider_host: provider.example.org
            access_token: MDAxNWxvY…            # in pillar, plain or GPG-rendered
            mount_point: /onedata/userdata
        ini: /etc/galaxy/onedatactl.ini        # spaces of the old scripts; the spaces above win

Instead of ``access_token``, ``token`` names the place of the token: ``sdb://profile/key``, ``pillar://path:to:it``, or
the path of a file with mode 0600. No function takes a token itself, because Salt keeps arguments in the job cache.

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
    # the module does not load here, but its functions need a default
    _TIMEOUT = 0

__virtualname__ = "onedata"

if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __pillar__: dict


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "onedata: this module works on Linux only"
    return __virtualname__


def spaces():
    """
    List the names of the declared spaces.

    Returns a list.

    Raises ``CommandExecutionError`` if the old INI cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.spaces
    """
    return _declared().names()


def status(name=None):
    """
    Tell the state of the declared spaces.

    name : str
        only this space

    Returns a mapping. Without ``name``, returns one mapping for each space, by its name:

    ``mounted``
        whether something is mounted on the space's mount point
    ``alive``
        whether the mount works. ``False`` also for a mount that is not Onedata's, that hangs, or whose process has
        ended ("Transport endpoint is not connected")
    ``problem``
        why the mount does not work
    ``provider_host``, ``mount_point``
        what the space declares
    ``fstype``, ``source``, ``options``
        facts of the mount

    If a space is declared wrongly, its ``problem`` says so, and ``mounted`` and ``alive`` are ``None``. If the old INI
    cannot be read, its path has such a mapping too. This holds without ``name``.

    Raises ``CommandExecutionError`` if the one space is declared wrongly, and ``SaltInvocationError`` if its name is
    unknown.

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
    Mount a space. If there is a dead mount of it, this is detached first.

    name : str
        name of the space
    timeout : float = 60
        seconds to wait until the mount answers. For as long, a database that holds the token and fails is asked again,
        and a mount that hangs is waited for
    test : bool = False
        change nothing; ``changed`` says whether the space would be mounted

    Returns what :py:func:`status` returns, and ``changed``.

    Raises ``CommandExecutionError`` if something else is mounted there, if files lie there (and ``nonempty`` is not
    declared), if a user other than root could put something else in the place of the mount point, or if oneclient
    fails. In the last case the error has oneclient's message.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.mount userdata
    """
    declared, seconds = _declared(), arguments.seconds("timeout", timeout)
    space = declared.space(name)
    if test:
        changed = not onedata_mount.require_mountable(space).alive
        if changed:
            # without test=True these would be needed too
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
        name of the space
    lazy : bool = False
        detach the space even if it is in use (``umount --lazy``). A dead mount is always detached in this way
    test : bool = False
        change nothing; ``changed`` says whether the space would be unmounted

    Returns what :py:func:`status` returns, and ``changed``.

    Raises ``CommandExecutionError`` if the space is busy; the error names the processes that use it.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.unmount userdata
    """
    space = _declared().space(name)
    changed = onedata_mount.require_unmountable(space).mounted if test else onedata_mount.unmount(space, lazy)
    return {**onedata_mount.status(space), "changed": changed}


def version():
    """
    Tell the version of ``oneclient``.

    Returns the version as a text.

    Raises ``CommandExecutionError`` if oneclient is not installed.

    CLI Example:

    .. code-block:: bash

        salt '*' onedata.version
    """
    return onedata_mount.version()


def _declared() -> onedata_declared.Declared:
    return onedata_declared.Declared(__salt__["config.get"])
