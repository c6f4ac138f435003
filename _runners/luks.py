"""
A volume of one minion: what an account of ``salt-api`` may call (docs/remote.md), and ``salt-run``.

There is no parameter for a passphrase: arguments of runners go out on the event bus.
"""

from __future__ import annotations

import salt.client

import galaxy_remote

__func_alias__ = {"open_": "open"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict
    __context__: dict


def status(minion, device):
    """
    What is known of a volume of a minion.

    minion
        its ID
    device
        as in ``luks.status``

    Returns ``success``, and as ``return`` what ``luks.status`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run luks.status galaxy.example.org /dev/vdb
    """
    return _call(minion, "luks.status", device=device)


def open_(minion, device, mapper, key, mount_point=None):
    """
    Open a volume of a minion, and mount it where a mount point is given.

    minion
        its ID
    device, mapper, mount_point
        as in ``luks.open``
    key
        the place of the key, as in ``luks.open``

    Returns ``success``, and as ``return`` what ``luks.open`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run luks.open galaxy.example.org /dev/vdb galaxy key=sdb://vault/galaxy mount_point=/export
    """
    return _call(minion, "luks.open", device=device, mapper=mapper, key=key, mount_point=mount_point)


def _call(minion, function, **keywords) -> dict:
    __context__["retcode"] = 1
    with salt.client.get_local_client(mopts=__opts__) as client:
        answer = galaxy_remote.call(client, minion, function, **keywords)
    __context__["retcode"] = 0 if answer["success"] else 1
    return answer
