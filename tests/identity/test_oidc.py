from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from overread.errors import Unavailable
from overread.identity import Errand, Nobody, NotProven, Person
from overread.identity.oidc import Oidc
from tests.identity.provider import ADA, CLIENT, SECRET, provider, tell
from tests.identity.slapd import free_port

BACK = "https://overread.hospital.example/sign-in/oidc/back"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider() as running:
        yield running


@pytest.fixture(autouse=True)
def honest(issuer: str) -> None:
    tell(issuer)


def oidc(issuer: str, /, **more: Any) -> Oidc:
    settings = {"issuer": issuer, "client_id": CLIENT, "client_secret": SECRET}
    return Oidc(Nobody(), {**settings, **more}, Path())


def gone(errand: Errand) -> dict[str, str]:
    """Go where a browser is sent, and return what it brings back."""
    answer = httpx.get(errand.url)
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"].startswith(BACK)
    found = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in found.items()}


def sign_in(plugin: Oidc, **changed: str) -> Person:
    errand = plugin.send(BACK)
    return plugin.receive(BACK, errand.kept, {**gone(errand), **changed}, datetime.now(UTC))


def test_a_person_signs_in_at_the_provider(issuer: str) -> None:
    person = sign_in(oidc(issuer))
    assert person == Person("ada", f"{issuer} 1234", frozenset({"readers"}), str(ADA["email"]))


def test_what_is_kept_is_new_every_time_and_stays_here(issuer: str) -> None:
    plugin = oidc(issuer)
    one, other = plugin.send(BACK), plugin.send(BACK)
    for name in ("state", "nonce", "verifier"):
        assert len(one.kept[name]) >= 43
        assert one.kept[name] != other.kept[name]
    assert one.kept["verifier"] not in one.url
    assert "code_challenge_method=S256" in one.url


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"claims": {"nonce": "another's"}}, "nonce"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"aud": "another client"}}, "aud"),
        ({"claims": {"aud": [CLIENT, "another"]}}, "azp"),
        ({"claims": {"aud": [CLIENT], "azp": "another"}}, "azp"),
        ({"claims": {"iss": "https://elsewhere.example"}}, "iss"),
        ({"claims": {"exp": int(time.time()) - 3600}}, "expired"),
        ({"claims": {"exp": None}}, "exp"),
        ({"claims": {"sub": None}}, "sub"),
        ({"claims": {"iat": int(time.time()) + 3600}}, "ID token does not hold"),
        ({"claims": {"at_hash": "of another token"}}, "at_hash"),
        ({"claims": {"preferred_username": None}}, "no preferred_username"),
        ({"claims": {"preferred_username": ["a", "b"]}}, "no preferred_username"),
        ({"alg": "none"}, "ID token does not hold"),
        ({"alg": "HS256"}, "ID token does not hold"),
        ({"signer": "two"}, "ID token does not hold"),
        ({"kid": "two"}, "ID token does not hold"),
        ({"error": "access_denied"}, "access_denied"),
        ({"state": "another's"}, "another request"),
    ],
)
def test_what_does_not_hold_signs_nobody_in(
    issuer: str, behaviour: dict[str, Any], message: str
) -> None:
    tell(issuer, **behaviour)
    with pytest.raises(NotProven, match=message):
        sign_in(oidc(issuer))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state": ""}, "another request"),
        ({"state": "x"}, "another request"),
        ({"code": ""}, "no code"),
        ({"code": "guessed"}, "does not take the code"),
        ({"iss": "https://elsewhere.example"}, "another provider"),
    ],
)
def test_what_a_browser_was_made_to_bring_signs_nobody_in(
    issuer: str, changed: dict[str, str], message: str
) -> None:
    with pytest.raises(NotProven, match=message):
        sign_in(oidc(issuer), **changed)


def test_a_code_is_good_for_once_and_for_the_browser_that_set_out(issuer: str) -> None:
    plugin, now = oidc(issuer), datetime.now(UTC)
    errand = plugin.send(BACK)
    brought = gone(errand)
    assert plugin.receive(BACK, errand.kept, brought, now).name == "ada"
    with pytest.raises(NotProven, match="does not take the code"):
        plugin.receive(BACK, errand.kept, brought, now)
    stolen = gone(plugin.send(BACK))["code"]  # another's code, with the own state
    mine = plugin.send(BACK)
    with pytest.raises(NotProven, match="does not take the code"):
        plugin.receive(BACK, mine.kept, {"state": mine.kept["state"], "code": stolen}, now)
    for missing in ("state", "nonce", "verifier"):
        errand = plugin.send(BACK)
        kept = {name: value for name, value in errand.kept.items() if name != missing}
        with pytest.raises(NotProven):
            plugin.receive(BACK, kept, gone(errand), now)


def test_clocks_may_differ_by_a_minute(issuer: str) -> None:
    tell(issuer, claims={"exp": int(time.time()) - 30})
    assert sign_in(oidc(issuer)).name == "ada"
    with pytest.raises(NotProven, match="expired"):
        sign_in(oidc(issuer, skew="1s"))
    plugin = oidc(issuer)
    tell(issuer)
    errand = plugin.send(BACK)
    brought = gone(errand)
    with pytest.raises(NotProven, match="expired"):
        plugin.receive(BACK, errand.kept, brought, datetime.now(UTC) + timedelta(minutes=10))


def test_new_keys_are_fetched_but_not_at_everybodys_wish(
    issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = oidc(issuer)
    assert sign_in(plugin).name == "ada"
    tell(issuer, keys=["one", "two"], kid="two")
    with pytest.raises(NotProven):  # they were fetched a moment ago
        sign_in(plugin)
    monkeypatch.setattr("overread.identity.oidc._REFETCH_AFTER", 0.0)
    assert sign_in(plugin).name == "ada"


def test_userinfo_is_asked_where_groups_are_only_there(issuer: str) -> None:
    asking = oidc(issuer, userinfo=True, groups_claim="realm.roles")
    assert sign_in(asking).groups == {"chiefs"}
    tell(issuer, userinfo_sub="somebody else")
    with pytest.raises(NotProven, match="about somebody else"):
        sign_in(asking)


def test_mail_that_the_provider_has_not_verified_is_not_used(issuer: str) -> None:
    tell(issuer, claims={"email_verified": False})
    assert sign_in(oidc(issuer)).email == ""


def test_a_wrong_secret_signs_nobody_in(issuer: str) -> None:
    with pytest.raises(NotProven, match="does not take the code"):
        sign_in(oidc(issuer, client_secret="another"))


def test_one_can_leave_the_provider_too(issuer: str) -> None:
    url = oidc(issuer).leaving("https://overread.hospital.example/sign-in")
    assert url.startswith(f"{issuer}/end?client_id=overread&post_logout_redirect_uri=https%3A")


def test_a_provider_that_is_away_is_said_to_be() -> None:
    with pytest.raises(Unavailable, match="does not answer: ConnectError"):
        oidc(f"http://127.0.0.1:{free_port()}").send(BACK)


def test_a_provider_that_says_it_is_another_is_not_believed(issuer: str) -> None:
    tell(issuer, issuer="https://elsewhere.example")
    with pytest.raises(Unavailable, match="says that it is another issuer"):
        oidc(issuer).send(BACK)


def test_a_host_that_the_site_does_not_name_is_not_asked(issuer: str) -> None:
    other = issuer.replace("127.0.0.1", "localhost")  # its endpoints are on 127.0.0.1
    tell(issuer, issuer=other)
    with pytest.raises(Unavailable, match=r"is on 127\.0\.0\.1, which hosts does not name"):
        oidc(other).send(BACK)
    assert oidc(other, hosts=["127.0.0.1"]).send(BACK).url.startswith(issuer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"issuer": "http://login.hospital.example"}, "it is no issuer"),
        ({"issuer": "https://login.hospital.example/?x=1"}, "is no issuer"),
        ({"issuer": "login"}, "is no issuer"),
        ({"client_id": ""}, "client_id"),
        ({"scopes": ["two words"]}, "scopes"),
        ({"certificate_authority": "absent.pem"}, "there is no file absent.pem"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    issuer: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        oidc(issuer, **settings)
    assert SECRET not in str(refused.value)
