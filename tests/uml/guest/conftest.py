"""
Fixtures of the tests that run inside the guest: Salt's real loader, as for ``salt-call --local``, and new devices.
"""

import hashlib
import json
import logging
import pathlib
import shutil
import subprocess
import uuid

import pytest
import salt.client
import salt.loader
from support.keystore import KeyStore

# Salt's log handlers write to streams that pytest has closed by then
logging.raiseExceptions = False

REPO = pathlib.Path(__file__).resolve().parents[3]
BACKUPS = "/run/backups"
# a key derivation that is quick enough for tests
CHEAP = {"pbkdf": "pbkdf2", "iterations": 1000}


def sh(*argv, **kwargs):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **kwargs).stdout.strip()


def content(device):
    """The content of the whole device, for comparison."""
    with open(device, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(autouse=True)
def _backups():
    """Remove backups: those of volumes that are gone would forbid formatting the next device."""
    yield
    shutil.rmtree(BACKUPS, ignore_errors=True)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The database that ``sdb://keys/…`` asks."""
    return KeyStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def caller(tmp_path_factory, store):
    config = tmp_path_factory.mktemp("salt") / "minion"
    pillar = config.with_name("pillar")
    pillar.mkdir()
    (pillar / "top.sls").write_text("base: {'*': [keys]}")
    (pillar / "keys.sls").write_text("empty: ''\nnumber: 7\n")
    config.write_text(
        json.dumps(
            {
                "id": "guest",
                "file_client": "local",
                "root_dir": str(config.parent),
                "module_dirs": [str(REPO / "_modules")],
                "states_dirs": [str(REPO / "_states")],
                "utils_dirs": [str(REPO / "_utils")],
                "pillar_roots": {"base": [str(pillar)]},
                **store.opts,
            }
        )
    )
    return salt.client.Caller(c_path=str(config))


@pytest.fixture
def call(caller):
    """A function that calls execution functions."""
    return caller.cmd


@pytest.fixture(scope="session")
def states(caller):
    """The state functions as Salt loads them: with test mode, and without."""
    functions, serializers = caller.sminion.functions, salt.loader.serializers(caller.opts)
    utils = salt.loader.utils(caller.opts)
    return {
        test: salt.loader.states({**caller.opts, "test": test}, functions, utils, serializers) for test in (False, True)
    }


@pytest.fixture
def state(states):
    """
    A function that runs one state and returns its result. ``story.py`` uses ``state.single``, which takes longer in the
    guest than most states.
    """

    def run(function, name, test=False, **kwargs):
        return states[test][function](name=name, **kwargs)

    return run


@pytest.fixture
def new_device(tmp_path):
    """A function that makes empty block devices. Their paths are in ``made``."""
    made = []

    def make(size="48M"):
        image = tmp_path / f"disk{len(made)}"
        sh("truncate", "-s", size, str(image))
        made.append(sh("losetup", "--find", "--show", str(image)))
        return made[-1]

    make.made = made
    yield make
    for node in pathlib.Path("/sys/class/block").glob("dm-*"):
        name = (node / "dm/name").read_text().strip()
        subprocess.run(["umount", "--all-targets", f"/dev/mapper/{name}"], capture_output=True, check=False)
        subprocess.run(["dmsetup", "remove", "--force", name], capture_output=True, check=False)
        # without udev, only cryptsetup removes the node
        pathlib.Path("/dev/mapper", name).unlink(missing_ok=True)
    for number, device in enumerate(made):
        subprocess.run(["umount", device], capture_output=True, check=False)
        subprocess.run(["losetup", "--detach", device], check=False)
        (tmp_path / f"disk{number}").unlink()


@pytest.fixture
def device(new_device):
    return new_device()


@pytest.fixture(scope="session")
def passphrase():
    return f"passphrase {uuid.uuid4()}"


@pytest.fixture
def key(tmp_path, passphrase):
    path = tmp_path / "key"
    path.write_text(passphrase)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def wrong_key(tmp_path):
    path = tmp_path / "wrong"
    path.write_text("not the passphrase")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def mount_point(tmp_path):
    return str(tmp_path / "export")


@pytest.fixture
def plan(device, key, mount_point):
    """The arguments of ``luks.encrypt``."""
    return {"device": device, "mapper": "galaxy", "mount_point": mount_point, "key": key, "backups": BACKUPS, **CHEAP}


@pytest.fixture
def small(plan):
    """The same for LUKS1, with a header an eighth of LUKS2's size: for tests that do not depend on the version."""
    return plan | {"version": 1}


@pytest.fixture(scope="session")
def templates(tmp_path_factory, caller, passphrase):
    """By LUKS version: the image of a finished volume with a file, and its header backups. They are made once."""
    root = tmp_path_factory.mktemp("templates")
    (root / "key").write_text(passphrase)
    (root / "key").chmod(0o600)
    made = {}

    def make(version):
        if version not in made:
            image, backups = made[version] = root / f"image{version}", root / f"backups{version}"
            sh("truncate", "-s", "48M", str(image))
            device = sh("losetup", "--find", "--show", str(image))
            options = CHEAP if version == 2 else {"iterations": CHEAP["iterations"], "version": 1}
            where = {"mount_point": str(root / "mnt"), "key": str(root / "key"), "backups": str(backups)}
            caller.cmd("luks.encrypt", device, "template", **where, **options)
            (root / "mnt/file").write_text("data")
            caller.cmd("luks.close", "template")
            sh("losetup", "--detach", device)
        return made[version]

    return make


def copied(template, plan):
    """Copy that volume to the plan's device. It is closed."""
    image, backups = template
    sh("cp", "--sparse=always", str(image), plan["device"])
    shutil.copytree(backups, BACKUPS)
    pathlib.Path(plan["mount_point"]).mkdir()
    return plan


@pytest.fixture
def closed(small, templates):
    """A finished volume with a file, closed. Returns the arguments of ``luks.encrypt``."""
    return copied(templates(1), small)


@pytest.fixture
def volume(plan, templates):
    """The same with LUKS2."""
    return copied(templates(2), plan)


@pytest.fixture
def encrypted(closed):
    """A finished volume that is open and mounted, with a file on it."""
    sh("cryptsetup", "open", f"--key-file={closed['key']}", closed["device"], "galaxy")
    sh("mount", "/dev/mapper/galaxy", closed["mount_point"])
    return closed


@pytest.fixture
def wanted(closed):
    arguments = {name: value for name, value in closed.items() if name != "mount_point"}
    return {"name": closed["mount_point"], **arguments}


def fails(state, function, match, **arguments):
    """The state fails, in test mode and in the run."""
    for test in (True, False):
        result = state(function, test=test, **arguments)
        assert (result["result"], result["changes"]) == (False, {}), result
        assert match in result["comment"]
        assert "Traceback" not in result["comment"]
