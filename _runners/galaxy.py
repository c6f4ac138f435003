"""
Galaxy on one minion: what an account of ``salt-api`` may call (docs/remote.md), and ``salt-run``.

The functions have no parameter but the minion, so that whoever may call them can neither name another service nor have
another file read: which server it is stands in the minion's pillar.
"""

from __future__ import annotations

import salt.client

import galaxy_remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict
    __context__: dict


def status(minion):
    """
    How Galaxy is on a minion.

    minion
        its ID

    Returns ``success``, and as ``return`` what ``galaxy.status`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.status galaxy.example.org
    """
    return _call(minion, "galaxy.status")


def startup(minion):
    """
    Start Galaxy on a minion, and wait until it is ready.

    minion
        its ID

    Returns ``success``, and as ``return`` what ``galaxy.startup`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.startup galaxy.example.org
    """
    return _call(minion, "galaxy.startup")


def _call(minion, function) -> dict:
    with salt.client.get_local_client(mopts=__opts__) as client:
        answer = galaxy_remote.call(client, minion, function)
    __context__["retcode"] = 0 if answer["success"] else 1
    return answer
