"""Keys that no person types: from Clevis with a real Tang server and a TPM, and from LUKS2 tokens."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest
from conftest import BACKUPS, CHEAP, fails, sh
from support.tpm import Tpm

import luks_device
import luks_header
import luks_key
import luks_reencrypt
import luks_token
from galaxy_errors import KeySlotError, KeySourceError, WrongKey
from galaxy_host_secret import Secret

# a boot takes these steps if the volume already has a header backup
BOOT = ["open", "fsck", "mount"]

TANG = "/usr/libexec/tangd"


class Tang:
    """A real tangd for each connection, as its socket unit starts it."""

    def __init__(self, root):
        self.keys = str(root / "tang")
        os.mkdir(self.keys)
        sh("/usr/libexec/tangd-keygen", self.keys)
        self._listener = None
        self.port = None

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self.port or 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()

    def stop(self):
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _serve(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    subprocess.run([TANG, self.keys], stdin=connection, stdout=connection, check=False)


@pytest.fixture
def tang(tmp_path):
    # this machine has no network yet, so start its loopback
    sh("ip", "link", "set", "lo", "up")
    server = Tang(tmp_path)
    server.start()
    yield server
    server.stop()


def bind(volume, *pin):
    sh("clevis", "luks", "bind", "-y", "-k", volume["key"], "-d", volume["device"], *pin)


def test_tang_opens_it(call, state, tang, volume):
    """The only binding here, because Clevis makes a key slot with cryptsetup's slow default."""
    device, bound = volume["device"], volume | {"key": "clevis://"}
    with pytest.raises(KeySourceError, match="clevis://: gives no passphrase"):
        call("luks.open", device, "galaxy", key="clevis://")
    bind(volume, "tang", json.dumps({"url": f"http://127.0.0.1:{tang.port}"}))
    arguments = {name: value for name, value in bound.items() if name != "mount_point"}
    announced = state("luks.mounted", bound["mount_point"], test=True, **arguments)
    # the server starts later than this machine
    tang.stop()
    with pytest.raises(KeySourceError, match="clevis://: gives no passphrase of"):
        call("luks.open", device, "galaxy", key="clevis://")
    threading.Timer(4, tang.start).start()
    made = state("luks.mounted", bound["mount_point"], key_timeout=300, **arguments)
    assert list(announced["changes"]) == list(made["changes"]) == ["header_backup", "open", "fsck", "mount"]
    assert pathlib.Path(bound["mount_point"], "file").read_text() == "data"
    # a recovery passphrase must remain
    with pytest.raises(KeySlotError, match="Keep a passphrase"):
        call("luks.remove_key", device, key=volume["key"], remaining="clevis://", backups=BACKUPS)
    call("luks.close", "galaxy")
    sh("cryptsetup", "luksKillSlot", "-q", device, "0")
    with pytest.raises(KeySlotError, match="no recovery passphrase"):
        call("luks.open", device, "galaxy", key="clevis://")


def test_a_new_volume_needs_a_passphrase(call, plan):
    for key in ("clevis://", "token://"):
        with pytest.raises(KeySourceError, match="only opens an existing volume"):
            call("luks.encrypt", **(plan | {"key": key}))


@pytest.fixture
def tpm(tmp_path):
    device = Tpm(tmp_path)
    device.start()
    yield device
    device.stop()


@pytest.fixture
def keyring(call, volume, wrong_key):
    """The volume with one more key slot, for cryptsetup's own token: a key in the kernel's keyring."""
    call("luks.add_key", volume["device"], new_key=wrong_key, key=volume["key"], backups=BACKUPS, **CHEAP)
    sh("cryptsetup", "token", "add", "--key-slot=1", "--key-description=galaxy", volume["device"])
    sh("keyctl", "padd", "user", "galaxy", "@u", input=pathlib.Path(wrong_key).read_text())
    sh("keyctl", "link", "@u", "@s")
    yield volume
    sh("keyctl", "purge", "user", "galaxy")


def test_a_token_opens_it(call, keyring):
    assert call("luks.test_key", keyring["device"], key="token://") is True
    arguments = keyring | {"key": "token://"}
    assert call("luks.encrypt", test=True, **arguments) == ["header_backup", "open", "fsck", "mount"]
    assert call("luks.encrypt", **arguments) == ["header_backup", "open", "fsck", "mount"]
    assert pathlib.Path(keyring["mount_point"], "file").read_text() == "data"


def test_without_a_token_none_opens_it(call, volume):
    with pytest.raises(WrongKey, match="no token in its header opens it"):
        call("luks.open", volume["device"], "galaxy", key="token://")


def test_a_token_that_works_makes_no_other_key_right(call, state, keyring, tmp_path):
    """cryptsetup tries tokens before it tries the given key."""
    device, other = keyring["device"], tmp_path / "other"
    other.write_text("opens nothing")
    other.chmod(0o600)
    assert call("luks.test_key", device, key=str(other)) is False
    with pytest.raises(WrongKey):
        call("luks.open", device, "galaxy", key=str(other))
    for slot in (0, 1):
        with pytest.raises(KeySlotError, match="opens no other key slot"):
            call("luks.remove_slot", device, slot, remaining=str(other), backups=BACKUPS)
    fails(state, "luks.key_absent", "opens no other", name=device, key=keyring["key"], remaining=str(other))
    added = state("luks.key_present", device, new_key=str(other), key=keyring["key"], backups=BACKUPS, **CHEAP)
    assert (added["result"], added["changes"] != {}) == (True, True), added["comment"]
    assert len(call("luks.status", device)["slots"]) == 3


@pytest.mark.slow
def test_a_tpm_opens_it(call, tpm, volume):
    """Clevis and systemd each bind a key slot to the TPM, and both open. Without the TPM, the passphrase is left."""
    device = volume["device"]
    bind(volume, "tpm2", "{}")
    passphrase = pathlib.Path(volume["key"]).read_text()
    sh("systemd-cryptenroll", "--tpm2-device=auto", device, env={**os.environ, "PASSWORD": passphrase})
    assert [token.type for token in luks_token.of(luks_header.read(device))] == ["clevis", "systemd-tpm2"]
    for place, steps in (("clevis://", ["header_backup", "open", "fsck", "mount"]), ("token://", BOOT)):
        assert call("luks.encrypt", **(volume | {"key": place})) == steps
        assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"
        call("luks.close", "galaxy")
    # after a change of the volume key, both still open it
    arguments = {"key": volume["key"], "backups": BACKUPS, **CHEAP}
    assert call("luks.reencrypt", device, **arguments) is True
    assert [len(token.slots) for token in luks_token.of(luks_header.read(device))] == [1, 1]
    for place in ("clevis://", "token://"):
        assert call("luks.encrypt", **(volume | {"key": place})) == BOOT
        call("luks.close", "galaxy")
    tpm.stop()
    for place, error in (("clevis://", KeySourceError), ("token://", WrongKey)):
        with pytest.raises(error):
            call("luks.encrypt", **(volume | {"key": place}))
    # a token that gives no passphrase now could not get a new key slot
    before = luks_header.read(device)
    with pytest.raises(KeySlotError, match=r"token 0 \(clevis\) does not open key slot.*luks.remove_slot"):
        call("luks.reencrypt", device, **arguments)
    assert luks_header.read(device) == before
    assert call("luks.encrypt", **volume) == BOOT


@pytest.mark.slow
def test_another_volume_key_keeps_what_clevis_bound(call, tang, volume, monkeypatch):
    device = volume["device"]
    bind(volume, "tang", json.dumps({"url": f"http://127.0.0.1:{tang.port}"}))
    arguments = {"key": volume["key"], "backups": BACKUPS, **CHEAP}
    encrypt = luks_reencrypt._encrypt

    def lost(*arguments):
        encrypt(*arguments)
        tang.stop()

    # the server is lost while the data is encrypted. The same call completes the work later
    monkeypatch.setattr(luks_reencrypt, "_encrypt", lost)
    with pytest.raises(KeySlotError, match=r"token 0 \(clevis\) does not open it any more.*Run `luks.reencrypt` again"):
        luks_reencrypt.run(
            luks_device.find(device),
            Secret(pathlib.Path(volume["key"]).read_bytes()),
            [],
            luks_header.Options(**CHEAP),
            luks_key.Place(BACKUPS),
        )
    assert call("luks.status", device)["reencrypting"] is True
    tang.start()
    assert call("luks.reencrypt", device, **arguments) is True
    assert call("luks.status", device)["reencrypting"] is False
    assert call("luks.encrypt", **(volume | {"key": "clevis://"})) == BOOT
    assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"


def test_a_recovery_key_of_systemd_is_a_passphrase_of_recovery(call, volume):
    device = volume["device"]
    passphrase = pathlib.Path(volume["key"]).read_text()
    sh("systemd-cryptenroll", "--recovery-key", device, env={**os.environ, "PASSWORD": passphrase})
    header = luks_header.read(device)
    assert len(header.slots) == 2
    assert header.unattended == frozenset()
