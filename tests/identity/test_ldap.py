from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overread.errors import Unavailable
from overread.identity import Nobody, Person
from overread.identity.ldap import Ldap, _text
from tests.identity.certificates import make_certificates
from tests.identity.slapd import (
    CHIEFS,
    GROUPS,
    PASSWORDS,
    PEOPLE,
    READERS,
    Directory,
    directory,
    free_port,
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    with directory(tmp_path_factory.mktemp("slapd")) as running:
        yield running


def ldap(here: Directory, **more: Any) -> Ldap:
    return Ldap(Nobody(), here.settings(**more), Path())


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_person_of_the_directory_signs_in_over_tls(here: Directory, scheme: str) -> None:
    port = here.tls if scheme == "ldaps" else here.plain
    person = ldap(here, servers=[f"{scheme}://localhost:{port}"]).sign_in("ada", PASSWORDS["ada"])
    assert person is not None
    assert person.name == "ada"
    assert person.groups == {READERS, CHIEFS}
    assert person.email == "ada@hospital.example"
    assert len(person.subject) == 36  # an entryUUID


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "not the password"),
        ("ada", PASSWORDS["rosa"]),
        ("nobody", PASSWORDS["ada"]),
        ("ada", ""),  # a directory lets anybody in with an empty one
        ("ada", "\N{SOFT HYPHEN}"),  # nothing, once it is prepared
        ("ada", "a\0b"),
        ("", PASSWORDS["ada"]),
        ("*", PASSWORDS["ada"]),
        ("ad*", PASSWORDS["ada"]),
        ("ada)(uid=ada", PASSWORDS["ada"]),
        ("ada)(|(uid=*", PASSWORDS["ada"]),
        ("ada\0", PASSWORDS["ada"]),
        ("twin", "twins"),  # two people have that name
    ],
)
def test_nobody_else_does(here: Directory, name: str, password: str) -> None:
    assert ldap(here).sign_in(name, password) is None
    direct = {"bind": "", "password": "", "bind_as": f"uid={{name}},{PEOPLE}"}
    assert ldap(here, **direct).sign_in(name, password) is None


def test_a_person_can_be_the_one_who_searches(here: Directory) -> None:
    direct = ldap(here, bind="", password="", bind_as=f"uid={{name}},{PEOPLE}")
    person = direct.sign_in("ada", PASSWORDS["ada"])
    assert person is not None
    assert (person.name, person.email) == ("ada", "ada@hospital.example")


def test_a_name_does_not_leave_its_part_of_a_distinguished_name(here: Directory) -> None:
    direct = ldap(here, bind="", password="", bind_as=f"uid={{name}},{PEOPLE}")
    assert direct.sign_in(f"ada,{PEOPLE}", PASSWORDS["ada"]) is None
    assert direct.sign_in("x+uid=ada", PASSWORDS["ada"]) is None


@pytest.mark.parametrize(
    ("attribute", "named"), [("", {READERS, CHIEFS}), ("cn", {"readers", "chiefs"})]
)
def test_groups_can_be_searched_for(here: Directory, attribute: str, named: set[str]) -> None:
    searching = ldap(
        here, groups="", find_groups="(member={dn})", group_base=GROUPS, group_name=attribute
    )
    person = searching.sign_in("ada", PASSWORDS["ada"])
    assert person is not None
    assert person.groups == named
    found = searching.sign_in("rosa", PASSWORDS["rosa"])
    assert found is not None
    assert found.groups == set()


def test_without_the_right_certificate_nothing_is_said(here: Directory, tmp_path: Path) -> None:
    password = PASSWORDS["ada"]
    other, _, _ = make_certificates(tmp_path, "localhost")
    for port, scheme in ((here.tls, "ldaps"), (here.plain, "ldap")):
        by_address = ldap(here, servers=[f"{scheme}://127.0.0.1:{port}"])
        with pytest.raises(Unavailable, match="no directory answers"):
            by_address.sign_in("ada", password)  # the certificate is for localhost
        stranger = ldap(
            here, servers=[f"{scheme}://localhost:{port}"], certificate_authority=str(other)
        )
        with pytest.raises(Unavailable, match="no directory answers"):
            stranger.sign_in("ada", password)


def test_the_next_server_is_asked_when_one_is_away(here: Directory) -> None:
    servers = [f"ldaps://localhost:{free_port()}", f"ldaps://localhost:{here.tls}"]
    assert ldap(here, servers=servers).sign_in("ada", PASSWORDS["ada"]) is not None


def test_a_server_that_says_nothing_is_not_waited_for(here: Directory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=f"ldaps://localhost:{port}"):
            ldap(here, servers=[f"ldaps://localhost:{port}"], timeout="1s").sign_in("ada", "x" * 9)
        assert time.monotonic() - begun < 5


def test_a_service_account_that_is_not_taken_is_not_the_persons_fault(here: Directory) -> None:
    with pytest.raises(Unavailable, match="does not take the service account"):
        ldap(here, password="wrong").sign_in("ada", PASSWORDS["ada"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"servers": []}, "servers"),
        ({"servers": ["http://localhost"]}, "servers"),
        ({"password": ""}, "without one a directory lets anybody in"),
        ({"bind": "", "password": ""}, "expected either bind and password, or bind_as"),
        ({"bind_as": "uid={name},dc=x"}, "expected either bind and password, or bind_as"),
        ({"find": "(uid=ada)"}, "find"),
        ({"find_groups": "(member={dn})"}, "find_groups needs group_base"),
        ({"certificate_authority": "absent.pem"}, "there is no file absent.pem"),
        ({"nested": True}, "nested"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    here: Directory, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        ldap(here, **settings)
    assert "the service's password" not in str(refused.value)


def test_a_person_without_some_attributes_signs_in_all_the_same(here: Directory) -> None:
    person = ldap(here, subject="roomNumber", email="").sign_in("ada", PASSWORDS["ada"])
    assert person == Person("ada", "", frozenset({READERS, CHIEFS}))


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"Ada", "Ada"), ("Zoë".encode(), "Zoë"), (b"\xff\x00", "ff00"), (b"\x07", "07")],
)
def test_what_is_no_text_is_written_in_hexadecimal(value: bytes, text: str) -> None:
    assert _text(value) == text
