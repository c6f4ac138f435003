"""
Galaxies as a table, worst first: for what ``galaxy.status`` and the runner ``galaxy.fleet`` return.

.. code-block:: bash

    salt '*' galaxy.status --static --out=galaxy
    salt-call galaxy.status --out=galaxy
"""

import shutil
import sys

import salt.loader

__virtualname__ = "galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict


def __virtual__():
    return __virtualname__


def output(data, **_):
    """
    The table as text; as wide as the terminal, where there is one. Other data raises ``KeyError``, and Salt shows it by
    another outputter.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.status --static --out=galaxy
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    # outputters have no path to _utils; their functions come by Salt's loader
    utils = salt.loader.utils(__opts__)
    return utils["galaxy_fleet_table.rendered"](data, width, bool(__opts__.get("color")))
