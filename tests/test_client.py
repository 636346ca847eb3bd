"""The client against a portal that really listens, and against answers that no portal gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import httpx
import pytest

from overread.client import Client
from overread.errors import OverreadError, Refused, Unavailable, UsageError
from overread.store import users
from tests.portal.filled import Filled, Filler, Patient, as_file, lesion, make_site, mr_slices
from tests.portal.test_browser import listening, port


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    filler = Filler(make_site(tmp_path_factory.mktemp("client"), port=port()))
    for number in range(5):
        filler.exam(f"e{number}", accession=f"PH-C-{number}", state="failed", reason="as it is")
    filler.exam("last", patient=Patient("P", "PH-9"), accession="PH-LAST")
    with filler.filled.database.write() as session:
        users.add_user(session, datetime.now(UTC), "test", name="egon", secret="", role="engineer")
    return filler.filled


@pytest.fixture(scope="module")
def token(filled: Filled) -> str:
    now = datetime.now(UTC)
    with filled.database.write() as session:
        egon = users.find_user(session, "egon")
        return users.open_bearer(session, now, "test", egon, timedelta(days=1)).token


@pytest.fixture(scope="module")
def address(filled: Filled) -> Iterator[str]:
    with listening(filled.site) as origin:
        yield origin


def test_the_nouns(filled: Filled, address: str, token: str) -> None:
    with Client(address, token) as portal:
        assert portal.me().name == "egon"
        exams = list(portal.exams(page=2))
        assert {one.id for one in exams} == set(filled.cases.values())
        assert exams[0].opened_at.tzinfo is not None
        assert portal.exam(exams[0].id) == exams[0]
        assert [one.accession for one in portal.exams(accession="PH-LAST")] == ["PH-LAST"]
        job = portal.job(filled.jobs["last"])
        assert [step.name for step in job.steps][:2] == ["t1c", "volume"]
        assert "window 12 of 12" in {one.name: one.log for one in portal.logs(job.id)}["mask"]
        assert len(list(islice(portal.jobs(page=2), 5))) == 5
        assert {one.kind for one in portal.results(job=job.id, current=True)} == {
            "measurements", "segmentation",
        }  # fmt: skip
        assert len(list(portal.instances(accession="PH-LAST", page=4))) == 17
        told = portal.why("PH-LAST")
        assert told["verdict"] == "its results are there"
        assert told["exams"][0]["opened_at"].tzinfo is not None
        assert [one.name for one in portal.pipelines()] == ["brain-tumour"]
        one = mr_slices("try", Patient(), "PH-T", "20260602", "MR BRAIN", lesion(5))[0]
        tried = portal.try_routes(as_file(one)[:4000], called="OVERREAD")
        assert [(go.ae_title, go.send) for go in tried.decisions] == [("CI2_CD_BTS", True)]
        assert not portal.health().well
        assert not [*portal.models(), *portal.deliveries(), *portal.projects()]


def test_what_it_does(filled: Filled, address: str, token: str) -> None:
    with Client(address, token) as portal:
        queued = portal.retry_job(filled.jobs["e0"], from_step="volume")
        assert (queued.state, queued.attempt) == ("queued", 2)
        assert portal.cancel_job(queued.id).reason == "cancelled by egon"
        with pytest.raises(Refused, match="nothing to cancel"):
            portal.cancel_job(queued.id)


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda portal: portal.exam("none"), UsageError, "no such exam"),
        (lambda portal: portal.exam("../jobs"), UsageError, "no such|Not Found"),
        (lambda portal: portal.why("NONE"), UsageError, "nothing has arrived"),
        (lambda portal: list(portal.exams(page=0)), UsageError, "limit: .*greater than or equal"),
        (lambda portal: list(portal.audit()), UsageError, "needs administrator"),
        (lambda portal: portal.file("none", "mask", "a/../b"), UsageError, "no job"),
    ],
)
def test_what_the_portal_refuses(
    address: str, token: str, ask: object, error: type[OverreadError], words: str
) -> None:
    assert callable(ask)
    with Client(address, token) as portal, pytest.raises(error, match=words):
        ask(portal)


def test_a_wrong_token_and_a_portal_that_is_away(address: str) -> None:
    with Client(address, "x") as portal, pytest.raises(UsageError, match="does not know this"):
        portal.me()
    with (
        Client(f"http://127.0.0.1:{port()}", "x") as nowhere,
        pytest.raises(Unavailable, match="is the portal up"),
    ):
        nowhere.me()


@pytest.mark.parametrize("address", ["ftp://x", "overread", "http://clinic.example"])
def test_a_token_is_sent_nowhere_unencrypted(address: str) -> None:
    with pytest.raises(UsageError, match="expected https://"):
        Client(address, "secret")


def test_a_next_page_elsewhere_gets_no_token() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(
            200, json=[], headers={"Link": '<https://elsewhere.example/x>; rel="next"'}
        )

    portal = Client("https://portal.example", "secret", transport=httpx.MockTransport(answer))
    with pytest.raises(Refused, match="elsewhere"):
        list(portal.exams())
    assert [request.url.host for request in asked] == ["portal.example"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(503, text="busy"), Unavailable),
        (httpx.Response(429, json={"detail": "wait"}), Unavailable),
        (httpx.Response(200, json={"name": 1}), Refused),
        (httpx.Response(200, text="<html>"), Refused),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), Refused),
    ],
)
def test_answers_that_are_none(answer: httpx.Response, error: type[OverreadError]) -> None:
    portal = Client("https://portal.example", "x", transport=httpx.MockTransport(lambda _: answer))
    with pytest.raises(error):
        portal.me()


def test_the_command_line_asks_a_running_portal(
    filled: Filled, address: str, token: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(token + "\n")

    def run(*words: str, file: str = "token") -> subprocess.CompletedProcess[str]:
        there = ["--portal", address, "--token-file", str(tmp_path / file)]
        return subprocess.run(
            [sys.executable, "-m", "overread", *words, *there],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip

    listed = run("exam", "list", "--json", "--limit", "3")
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)) == 3
    jobs = run("job", "list", "--json", "--state", "done")
    assert [one["id"] for one in json.loads(jobs.stdout)] == [filled.jobs["last"]]
    why = run("why", "PH-LAST")
    assert "its results are there" in why.stdout and "closed" in why.stdout
    without = run("why", "PH-LAST", file="none")
    assert without.returncode == 2
    assert "--token-file" in without.stderr
