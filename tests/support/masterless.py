"""A minion without a master, which serves the tree to itself."""

import json
import shutil
import subprocess

from .site import BIN, REPO


def copy_tree(root):
    """The tree as a master serves it, without the checkout's virtualenvs; ``root``, where it is now."""
    for name in ("_beacons", "_modules", "_output", "_runners", "_states", "_utils", "formulas"):
        shutil.copytree(REPO / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


class Masterless:
    """
    Its configuration is in ``root``.

    tree
        what it serves: a copy of the repository's tree
    pillar
        what it has below ``galaxy:``
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
        """``salt-call`` with these words."""
        return [BIN / "salt-call", "--local", "-c", self.root, "--log-level=error", "--retcode-passthrough", *words]

    def call(self, *words):
        """What a function returned. Raises ``CalledProcessError`` where it failed."""
        done = subprocess.run(self.argv("--out=json", *words), check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["local"]
