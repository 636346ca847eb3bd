"""A real directory for the tests: OpenLDAP's slapd, with TLS, on free ports."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldap3 import Connection, Server, Tls

from tests.identity.certificates import make_certificates

SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/libexec")
BASE, PEOPLE, GROUPS = "dc=hospital", "ou=people,dc=hospital", "ou=groups,dc=hospital"
SERVICE, SERVICE_PASSWORD = "cn=overread,dc=hospital", "the service's password"
READERS, CHIEFS = f"cn=readers,{GROUPS}", f"cn=chiefs,{GROUPS}"
PASSWORDS = {"ada": "a directory password", "rosa": "another password", "idle": "no role, this one"}

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/authority.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
security simple_bind=1
database mdb
suffix "dc=hospital"
rootdn "cn=root,dc=hospital"
rootpw root
directory {folder}/data
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=overread,dc=hospital" read by self read by users search by * none
"""


@dataclass(frozen=True)
class Directory:
    """Where the directory listens, and who signed its certificate, which is for ``localhost``."""

    plain: int
    tls: int
    authority: Path

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a site says to use it."""
        return {
            "servers": [f"ldaps://localhost:{self.tls}"],
            "certificate_authority": str(self.authority),
            "bind": SERVICE,
            "password": SERVICE_PASSWORD,
            "base": PEOPLE,
            "timeout": "3s",
            **more,
        }


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def directory(folder: Path) -> Iterator[Directory]:
    """Run a directory with a few people and groups."""
    assert SLAPD, "slapd is not installed; run make setup"
    authority, _, _ = make_certificates(folder, "localhost")
    (folder / "data").mkdir()
    config = folder / "slapd.conf"
    config.write_text(_CONFIG.format(folder=folder))
    here = Directory(free_port(), free_port(), authority)
    urls = f"ldap://127.0.0.1:{here.plain} ldaps://127.0.0.1:{here.tls}"
    process = subprocess.Popen([SLAPD, "-f", config, "-h", urls, "-d", "0"])
    try:
        _wait_for(here.tls)
        _fill(here)
        yield here
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, "slapd does not begin to listen"
            time.sleep(0.02)  # until it listens
        else:
            return


def _fill(here: Directory) -> None:
    tls = Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(here.authority))
    server = Server("localhost", port=here.tls, use_ssl=True, tls=tls)
    connection = Connection(server, "cn=root,dc=hospital", "root")
    assert connection.bind(), connection.result
    with connection:
        add: Any = connection.add  # its stub has no types
        assert add(BASE, ["dcObject", "organization"], {"o": "Hospital", "dc": "hospital"})
        for unit in ("people", "groups"):
            assert add(f"ou={unit},{BASE}", "organizationalUnit", {"ou": unit})
        simple = ["organizationalRole", "simpleSecurityObject"]
        assert add(SERVICE, simple, {"userPassword": SERVICE_PASSWORD})
        for name, password in PASSWORDS.items():
            person = {"cn": name, "sn": name, "userPassword": password}
            person["mail"] = f"{name}@hospital.example"
            assert add(f"uid={name},{PEOPLE}", "inetOrgPerson", person)
        for number in (1, 2):
            twin = {"cn": f"twin {number}", "sn": "twin", "uid": "twin", "userPassword": "twins"}
            assert add(f"cn=twin {number},{PEOPLE}", "inetOrgPerson", twin)
        for dn, member in ((READERS, "ada"), (CHIEFS, "ada"), (f"cn=others,{GROUPS}", "idle")):
            assert add(dn, "groupOfNames", {"member": f"uid={member},{PEOPLE}"}), connection.result
