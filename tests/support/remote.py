"""
salt-api as docs/remote.md describes it: the page's configuration, nginx and requests, and an HTTPS client.
"""

import contextlib
import datetime
import hashlib
import http.client
import ipaddress
import json
import re
import shlex
import ssl
import urllib.parse

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from . import balancer
from .site import REPO, free_port

# this host is in the page's configuration
MINION = "galaxy.example.org"
UUID = "0ad6c58f-3798-440f-818c-5a5bea96859f"
KEY = "pillar://galaxy:storage:passphrase"
PASSWORDS = {"dashboard": "of the dashboard", "stranger": "of a stranger"}


def credentials(user="dashboard"):
    return {"username": user, "password": PASSWORDS[user], "eauth": "file"}


def configuration(root, uuid=UUID, mount_point="/export"):
    """The page's configuration of the master, with other paths, another port, and another UUID of the volume."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (REPO / "docs/remote.md").read_text(), re.DOTALL)
    config = yaml.safe_load(block.replace(UUID, uuid).replace("/export", mount_point))
    accounts = [f"{user}:{hashlib.sha256(word.encode()).hexdigest()}\n" for user, word in PASSWORDS.items()]
    (root / "dashboards").write_text("".join(accounts))
    config["external_auth"]["file"]["^filename"] = str(root / "dashboards")
    config["rest_cherrypy"].update(port=free_port(), ssl_crt=str(root / "crt"), ssl_key=str(root / "key"))
    certify(root / "crt", root / "key")
    return config


def requests():
    """The page's curl commands: path, headers and body."""
    (block,) = re.findall(r"```bash\n(.*?)```", (REPO / "docs/remote.md").read_text(), re.DOTALL)
    commands = []
    for command in block.replace("\\\n", " ").split("\n\n"):
        url, *options = [word for word in shlex.split(command) if word not in ("curl", "-sS")]
        pairs = list(zip(options[::2], options[1::2], strict=True))
        assert {option for option, _ in pairs} == {"-H", "-d"}
        headers = dict(value.split(": ") for option, value in pairs if option == "-H")
        (body,) = [value for option, value in pairs if option == "-d"]
        commands.append((urllib.parse.urlsplit(url).path, headers, body))
    return commands


@contextlib.contextmanager
def nginx(root, config):
    """The page's nginx, in front of the salt-api of ``config``. Yields its port.

    Its logs are in ``root``: ``error.log``, and ``access.log`` with salt-api's answers (``-``: nginx did not ask it).
    """
    (block,) = re.findall(r"```nginx\n(.*?)```", (REPO / "docs/remote.md").read_text(), re.DOTALL)
    api, port = config["rest_cherrypy"], free_port()
    places = {
        **{"listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "127.0.0.1:8000": f"127.0.0.1:{api['port']}"},
        **{"/etc/ssl/certs/salt.example.org.crt": api["ssl_crt"], "/etc/pki/tls/certs/salt-api.crt": api["ssl_crt"]},
        "/etc/ssl/private/salt.example.org.key": api["ssl_key"],
    }
    for there, here in places.items():
        assert there in block, there
        block = block.replace(there, here)
    (root / "salt-api.conf").write_text(block)
    http = (
        f"log_format upstream '$status [$upstream_status] $request'; access_log {root}/access.log upstream;"
        f"include {root}/salt-api.conf;"
    )
    with balancer.nginx(root, http, port):
        yield port


class Client:
    """One HTTPS request for each call. It checks the server's certificate."""

    def __init__(self, config, port=None):
        self.port = port or config["rest_cherrypy"]["port"]
        self.context = ssl.create_default_context(cafile=config["rest_cherrypy"]["ssl_crt"])

    def __call__(self, method, path, body=None, token=None, **headers):
        """Returns the status, the headers, and the answer (decoded if it is JSON)."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=120)
        headers = {"Accept": "application/json", **headers, **({"X-Auth-Token": token} if token else {})}
        if isinstance(body, (dict, list)):
            headers, body = {"Content-Type": "application/json", **headers}, json.dumps(body)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        plain = answer.headers.get_content_type() == "application/json"
        return answer.status, answer.headers, json.loads(text) if plain else text

    def login(self, user="dashboard"):
        status, _, answer = self("POST", "/login", credentials(user))
        assert status == 200, answer
        return answer["return"][0]["token"]

    def run(self, token, *more, **chunk):
        """The status and the answer of a runner call. ``more`` are further calls in the same request."""
        status, _, answer = self("POST", "/", [{"client": "runner", **chunk}, *more], token)
        return status, answer


def certify(crt, key):
    """Make a self-signed certificate for 127.0.0.1 and the page's host."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("salt.example.org")]
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .sign(private, hashes.SHA256())
    )
    crt.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(private.private_bytes(*form))
