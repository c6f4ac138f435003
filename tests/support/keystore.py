"""A real server of keys, and a real driver for it. A machine asks for ``sdb://keys/NAME``. The server may be down."""

import socketserver
import threading

_DRIVER = """
import socket

from salt.exceptions import CommandExecutionError


def get(key, profile=None):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(profile["path"])
        connection.sendall(key.encode() + b"\\n")
        with connection.makefile() as answers:
            answer = answers.read()
    if answer == "sealed":
        raise CommandExecutionError("the store is sealed")
    return answer or None
"""


class KeyStore:
    """``keys`` by name. It answers the next ``sealed`` requests as a sealed Vault does. ``start`` brings it up."""

    def __init__(self, root, **keys):
        self.keys, self.sealed, self.asked = keys, 0, 0
        self._path = root / "keystore"
        (root / "sdb").mkdir()
        (root / "sdb" / "keystore.py").write_text(_DRIVER)
        # Salt's options on the minion
        self.opts = {"sdb_dirs": [str(root / "sdb")], "keys": {"driver": "keystore", "path": str(self._path)}}
        self._server = None

    def start(self):
        store = self

        class Answer(socketserver.StreamRequestHandler):
            def handle(self):
                name = self.rfile.readline().decode().strip()
                store.asked += 1
                sealed, store.sealed = store.sealed > 0, max(0, store.sealed - 1)
                self.wfile.write(b"sealed" if sealed else store.keys.get(name, "").encode())

        self._server = socketserver.UnixStreamServer(str(self._path), Answer)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._path.unlink()
            self._server = None
