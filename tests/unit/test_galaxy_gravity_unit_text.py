import re

import pytest

import galaxy_gravity_unit_text
from galaxy_errors import DefinitionError

SERVICE = """;
; This file is maintained by Gravity - CHANGES WILL BE OVERWRITTEN
;

[Unit]
Description=Galaxy main gunicorn (process %i)
After=network.target
After=time-sync.target
PartOf=galaxy-main.target

[Service]
UMask=022
Type=simple
User=galaxy
Group=biology
WorkingDirectory=/srv/galaxy
TimeoutStartSec=15
TimeoutStopSec=65
ExecStart=/srv/venv/bin/galaxyctl --config-file /srv/galaxy.yml exec --service-instance %i main gunicorn
ExecReload=/bin/kill -HUP $MAINPID
Environment=PYTHONPATH=lib
Environment=VIRTUAL_ENV='/srv/a b'
MemoryMax=2.5G
MemoryHigh=2G
LogNamespace=galaxy
Restart=always

MemoryAccounting=yes
CPUAccounting=yes
BlockIOAccounting=yes

[Install]
WantedBy=multi-user.target
"""
TARGET = """; GRAVITY=133f00bc5cd2c83feb28f5ddaefc8dcbe656662f

[Unit]
Description=Galaxy main
After=network.target
Wants=galaxy-main-gunicorn@0.service galaxy-main-gunicorn@1.service galaxy-main-celery.service

[Install]
WantedBy=multi-user.target
"""
NAME = "galaxy-main-gunicorn@.service"
SERVICES = {NAME, "galaxy-main-celery.service"}


def check(text, name=NAME, group="biology"):
    galaxy_gravity_unit_text.require_service(name, text, "galaxy-main.target", "galaxy", group)


def test_what_gravity_writes():
    check(SERVICE)
    check(SERVICE.replace("Group=biology\n", ""), group=None)
    # service_command_style: direct, and a virtualenv whose path has a blank
    check(re.sub("ExecStart=.*", "ExecStart='/srv/a b/bin/'gunicorn 'galaxy:factory()' -b unix:/s", SERVICE))
    galaxy_gravity_unit_text.require_target("galaxy-main.target", TARGET, SERVICES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("User=galaxy", "User=root"),
        ("User=galaxy\n", ""),
        ("User=galaxy", "User=galaxy\nUser=galaxy"),
        ("User=galaxy", "User = galaxy\nUSER=root"),
        ("Group=biology", "Group=root"),
        ("Group=biology\n", ""),
        ("ExecStart=/", "ExecStart=+/"),
        ("ExecStart=/", "ExecStart=!/"),
        ("ExecStart=/", "ExecStart=-!!/"),
        ("ExecStart=/", "ExecStart=@/"),
        ("ExecStart=/", "ExecStart=:/"),
        ("exec --", "exec ; +/bin/sh -c id --"),
        ("Restart=always", "Restart=always\nExecStartPre=+/bin/sh"),
        ("Restart=always", "Restart=always\nExecStart=/bin/sh"),
        ("Restart=always", "Restart=no"),
        ("ExecReload=/bin/kill -HUP $MAINPID", "ExecReload=+/bin/sh -c id"),
        ("Restart=always", "Restart=always\nEnvironmentFile=/etc/shadow"),
        ("Restart=always", "Restart=always\nPermissionsStartOnly=yes"),
        ("Restart=always", "Restart=always\nAmbientCapabilities=CAP_SYS_ADMIN"),
        ("Restart=always", "Restart=always\nStandardOutput=append:/etc/cron.d/x"),
        ("Restart=always", "Restart=always\n[Socket]\nListenStream=1"),
        ("Restart=always", "Restart=always\r"),
        ("Restart=always", "# \\\nRestart=always"),
        ("Environment=PYTHONPATH=lib", "Environment=PYTHONPATH=lib \\"),
        ("Type=simple", "Type=notify"),
        ("PartOf=galaxy-main.target", "PartOf=galaxy.target"),
        ("PartOf=galaxy-main.target", "PartOf=galaxy-main.target\nRequires=reboot.target"),
        ("After=network.target", "OnFailure=reboot.target"),
        ("WantedBy=multi-user.target", "WantedBy=multi-user.target\nAlias=sshd.service"),
        ("WantedBy=multi-user.target", "Also=ssh.socket"),
        ("UMask=022", "UMask=u=rwx"),
        ("TimeoutStartSec=15", "TimeoutStartSec=infinity"),
        ("MemoryMax=2.5G", "MemoryMax=1%"),
        ("LogNamespace=galaxy", "LogNamespace=../x"),
        ("WorkingDirectory=/", "WorkingDirectory=-/"),
        ("[Service]", "[Service]\nno key"),
        ("[Service]", "[Service] [Unit]"),
    ],
)
def test_what_root_does_not_install(old, new):
    text = SERVICE.replace(old, new)
    assert text != SERVICE
    with pytest.raises(DefinitionError, match=r"^galaxy-main-gunicorn@\.service"):
        check(text)


@pytest.mark.parametrize("name", ["sshd.service", "galaxy.service", "galaxy-x.service", "galaxy-main-x.timer", "a/b"])
def test_names(name):
    with pytest.raises(DefinitionError, match="is no name"):
        check(SERVICE, name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("galaxy-main-celery.service", "poweroff.target"),
        ("galaxy-main-celery.service", "galaxy-other.service"),
        ("gunicorn@1", "gunicorn@1@"),
        ("Wants=", "Requires="),
        ("[Install]", "[Service]\nExecStart=/bin/sh\n[Install]"),
    ],
)
def test_targets_want_their_own_services_alone(old, new):
    text = TARGET.replace(old, new)
    assert text != TARGET
    with pytest.raises(DefinitionError):
        galaxy_gravity_unit_text.require_target("galaxy-main.target", text, SERVICES)
