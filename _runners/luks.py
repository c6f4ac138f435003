"""
Look after a volume of one minion. An account of ``salt-api`` (docs/remote.md) and ``salt-run`` call these runners.

No function takes a passphrase, because Salt sends the arguments of runners over the event bus.
"""

from __future__ import annotations

import functools
import os

import salt.client
import salt.utils.event
from salt.exceptions import SaltClientError, SaltInvocationError

import galaxy_host_later

galaxy_host_later.drop_outdated()

import galaxy_remote
import galaxy_remote_progress

__func_alias__ = {"open_": "open"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict
    __context__: dict


def status(minion, device):
    """
    Tell the state of a volume of a minion.

    minion : str
        ID of the minion
    device : str
        the device, as in ``luks.status``

    Returns ``success``, and ``return``: what ``luks.status`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run luks.status galaxy.example.org /dev/vdb
    """
    return _answer(lambda client: galaxy_remote.call(client, minion, "luks.status", device=device))


def open_(minion, device, mapper, key, mount_point=None):
    """
    Open a volume of a minion. If a mount point is given, mount it too.

    If somebody opens the volume there already, the answer says so at once, with ``success`` false.

    minion : str
        ID of the minion
    device : str
        the volume's device
    mapper : str
        name of the open volume in ``/dev/mapper``
    key : str
        place of the key, as in ``luks.open``
    mount_point : str
        directory on which to mount the volume; by default it is not mounted

    Returns ``success``, and ``return``: what ``luks.open`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run luks.open galaxy.example.org /dev/vdb galaxy key=sdb://vault/galaxy mount_point=/export
    """
    volume = {"device": device, "mapper": mapper, "key": key, "mount_point": mount_point}
    locks = os.path.join(__opts__["cachedir"], "galaxy")
    listen = functools.partial(salt.utils.event.get_master_event, __opts__, __opts__["sock_dir"], listen=True)
    with galaxy_remote_progress.shown(__opts__, listen, [minion]):
        return _answer(lambda client: galaxy_remote.call_once(client, locks, minion, "luks.open", **volume))


def _answer(ask) -> dict:
    # 1 until all went well: if an argument is refused, Salt reports success, with the code of the last run
    __context__["retcode"] = 1
    try:
        with salt.client.get_local_client(mopts=__opts__) as client:
            answer = ask(client)
    except (SaltClientError, SaltInvocationError) as exc:
        answer = {"success": False, "return": str(exc)}
    # Salt itself looks at the first value; the second becomes the exit code of salt-run
    __context__["retcode"] = retcode = 0 if answer["success"] else 1
    return {**answer, "retcode": retcode}
