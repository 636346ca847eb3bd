from __future__ import annotations

from pathlib import Path

import pytest

from overread.errors import SiteError
from overread.site import load

LDAP = """
    ldap:
      servers: ["ldaps://dc1.hospital.example"]
      bind: "cn=overread,dc=hospital"
      password: ${env:LDAP_PASSWORD}
      base: "dc=hospital"
"""


def faults(root: Path, identity: str) -> str:
    (root / "overread.yaml").write_text(f"site: {{name: Test}}\nidentity:\n{identity}")
    with pytest.raises(SiteError) as refused:
        load(root, {"LDAP_PASSWORD": "a secret of the site"})
    assert "a secret" not in str(refused.value)
    return str(refused.value)


def test_a_site_names_its_directory(tmp_path: Path) -> None:
    text = f"site: {{name: Test}}\nidentity:\n  use: [local, ldap]\n  with:{LDAP}"
    (tmp_path / "overread.yaml").write_text(text)
    settings = load(tmp_path, {"LDAP_PASSWORD": "a secret of the site"}).settings
    assert settings.identity.use == ("local", "ldap")


@pytest.mark.parametrize(
    ("identity", "fault"),
    [
        ("  use: [lokal]", "overread.yaml:3: there is no identity plugin 'lokal'; expected"),
        (f"  with:{LDAP}", "settings of ldap, which identity.use does not name"),
        ("  use: [ldap]\n  with:" + LDAP.replace("ldaps", "http"), "identity ldap: servers.0: "),
        ("  use: [ldap]\n  with:" + LDAP + "      tls: no", "identity ldap: tls: "),
        ("  use: [oidc]", "identity oidc: issuer: Field required; client_id: Field required"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, identity: str, fault: str) -> None:
    assert fault in faults(tmp_path, identity)
