"""A filled site, built once, and clients that have signed in."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from overread.portal.app import build
from tests.portal.filled import PASSWORDS, Filled, fill, make_site


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """The store, filled; tests that write use accession numbers and names of their own."""
    return fill(make_site(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="session")
def app(filled: Filled) -> FastAPI:
    """The portal of the filled site."""
    return build(filled.site)


@pytest.fixture
def anonymous(app: FastAPI) -> TestClient:
    """A browser in which nobody has signed in."""
    return TestClient(app, follow_redirects=False)


@pytest.fixture(scope="session")
def sign_in(app: FastAPI) -> Callable[[str], TestClient]:
    """Sign somebody in, through the form, in a browser of their own."""

    def signed_in(name: str) -> TestClient:
        client = TestClient(app, follow_redirects=False)
        answer = post_sign_in(client, name, PASSWORDS[name])
        assert answer.status_code == 303, answer.text
        return client

    return signed_in


@pytest.fixture(scope="session")
def reader(sign_in: Callable[[str], TestClient]) -> TestClient:
    """A reader's browser, for tests that do not sign out."""
    return sign_in("rosa")


@pytest.fixture(scope="session")
def engineer(sign_in: Callable[[str], TestClient]) -> TestClient:
    """An engineer's browser, for tests that do not sign out."""
    return sign_in("egon")


def post_sign_in(client: TestClient, name: str, password: str, target: str = "/") -> httpx.Response:
    """Fill in the form and send it."""
    page = client.get("/sign-in", params={"next": target})
    form = {"name": name, "password": password, "csrf": csrf_of(page.text), "next": target}
    answer: httpx.Response = client.post("/sign-in", data=form)
    return answer


def csrf_of(page: str) -> str:
    """The CSRF token in a page's form."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, "the page has no form with a token"
    return found[1]
