"""A minion without a master; it reads the tree from its own disk."""

import json
import shutil
import subprocess

from .site import BIN, REPO


def copy_tree(root):
    """Copy the tree without the checkout's virtualenvs, as a master would serve it. Returns ``root``, its new place."""
    for name in ("_beacons", "_modules", "_output", "_runners", "_states", "_utils", "formulas"):
        shutil.copytree(REPO / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


class Masterless:
    """
    A minion; its configuration is in ``root``.

    tree
        what it reads: a copy of the repository's tree
    pillar
        what is below ``galaxy:`` in its pillar
    """

    def __init__(self, root, tree, pillar=None):
        self.root = root
        (root / "pillar").mkdir(parents=True)
        (root / "pillar" / "top.sls").write_text("base:\n  '*':\n    - galaxy\n")
        (root / "pillar" / "galaxy.sls").write_text(json.dumps({"galaxy": pillar} if pillar else {}))
        (root / "minion").write_text(
            f"root_dir: {root}\nid: masterless\nfile_client: local\n"
            f"file_roots:\n  base:\n    - {tree}\n    - {tree / 'formulas'}\n"
            f"pillar_roots:\n  base:\n    - {root / 'pillar'}\n"
        )

    def argv(self, *words):
        """``salt-call`` with these arguments."""
        return [BIN / "salt-call", "--local", "-c", self.root, "--log-level=error", "--retcode-passthrough", *words]

    def call(self, *words):
        """What a function returned. Raises ``CalledProcessError`` if it failed."""
        done = subprocess.run(self.argv("--out=json", *words), check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["local"]
