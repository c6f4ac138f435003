"""
Show Galaxies as a table, worst first. The outputter shows what ``galaxy.status`` and the runner ``galaxy.fleet``
return.

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
    Return the table as text. If there is a terminal, the table is as wide as the terminal. For other data ``KeyError``
    is raised, and Salt shows the data with another outputter.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.status --static --out=galaxy
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    # an outputter cannot import utils, so Salt's loader gives their functions
    utils = salt.loader.utils(__opts__)
    return utils["galaxy_fleet_table.rendered"](data, width, bool(__opts__.get("color")))
