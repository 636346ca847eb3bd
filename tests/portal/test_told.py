"""Every route that shows a patient's data or changes something leaves a row: which one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.portal.told import SHOWN
from overread.site import load
from overread.store import studies, users
from overread.store.tables import Audit, Reading
from overread.store.tables import Session as SignIn
from tests.conftest import ROOT
from tests.portal.conftest import csrf_of, post_sign_in
from tests.portal.filled import AT, PASSWORDS, make_site
from tests.portal.reading_site import ReadingSite, reading_site

PASSWORDS |= {"ada": "an administrator's password"}

NOTHING = "shows nothing of a patient and changes nothing"
OWN = "the asker's own sign-in"
_SERIES = "/dicom-web/studies/{study}/series/{series}"
_ONE = f"{_SERIES}/instances/{{instance}}"

SILENT = {
    "GET /api/v1/openapi.json": NOTHING,
    "GET /sign-in": OWN,
    "GET /sign-in/{provider}": OWN,
    "GET /account": OWN,
    "GET /users": NOTHING,
    "GET /users/{user_id}": NOTHING,
    "GET /healthz": NOTHING,
    "GET /readyz": NOTHING,
    "GET /metrics": NOTHING,
    "GET /static/{name}": NOTHING,
    "GET /projects": NOTHING,
    "GET /projects/{name}": NOTHING,
    "GET /events": NOTHING,
    "GET /cases/{case_id}/viewer": "leads to the images, which are told of when they are given",
    "GET /forms/{name}/preview": NOTHING,
    "POST /forms/{name}/preview": NOTHING,
    "GET /launch": "leads to the EHR; the way back is told of",
    "GET /models": NOTHING,
    "GET /models/{name}/{version}": NOTHING,
    "GET /models/{name}/{version}/verified": NOTHING,
    "GET /pipelines/{name}": NOTHING,
    "GET /plugins": NOTHING,
    "POST /routes/test": "of a file that the asker brings, and that is not kept",
    "GET /health": NOTHING,
    "GET /health/checks": NOTHING,
    "GET /styleguide": NOTHING,
    "POST /api/v1/routes/test": "of a file that the asker brings, and that is not kept",
    "GET /api/v1/projects": NOTHING,
    "GET /api/v1/projects/{name}": NOTHING,
    "GET /api/v1/projects/{name}/progress": NOTHING,
    "GET /api/v1/pipelines": NOTHING,
    "GET /api/v1/pipelines/{name}": NOTHING,
    "GET /api/v1/models": NOTHING,
    "GET /api/v1/models/{name}/{version}": NOTHING,
    "POST /api/v1/models/{name}/{version}/verify": NOTHING,
    "GET /api/v1/forms": NOTHING,
    "GET /api/v1/forms/{name}": NOTHING,
    "GET /api/v1/routes": NOTHING,
    "GET /api/v1/health": NOTHING,
    "GET /api/v1/me": OWN,
    "GET /api/v1/users": NOTHING,
    "GET /api/v1/users/{user_id}": NOTHING,
    "GET /app-config.js": NOTHING,
    "GET /viewer/{rest:path}": NOTHING,
    "GET /viewer": NOTHING,
    "GET /{path:path}": NOTHING,
}
"""Route to why it leaves no row."""

TELLS = {
    "GET /cases/{case_id}": "open case",
    "GET /api/v1/cases/{case_id}": "open case",
    "GET /audit/export": "export audit",
    "GET /cases/{case_id}/compare": "compare versions",
    "GET /api/v1/cases/{case_id}/compare": "compare versions",
    "GET /cases/{case_id}/turn/{result}": "turn segmentation",
    "GET /cases/{case_id}/reading": "open reading",
    f"GET {_ONE}/rendered": "retrieve images",
    f"GET {_ONE}/frames/{{number}}/rendered": "retrieve images",
    "GET /dicom-web/studies/{study}/metadata": "retrieve images",
    f"GET {_SERIES}/metadata": "retrieve images",
    f"GET {_ONE}/metadata": "retrieve images",
    "GET /dicom-web/studies/{study}": "retrieve images",
    f"GET {_SERIES}": "retrieve images",
    f"GET {_ONE}": "retrieve images",
    f"GET {_ONE}/frames/{{numbers}}": "retrieve images",
    f"GET {_ONE}/bulkdata/{{path:path}}": "retrieve images",
    "GET /open": "find case",
    "GET /launch/back": "launch",
    "GET /sign-in/{provider}/back": "sign in",
    "POST /sign-in": "sign in",
    "POST /sign-out": "sign out",
    "POST /account/tokens": "make token",
    "POST /account/sessions/end": "end sign-ins",
    "POST /account/sessions/{session_id}/end": "end sign-in",
    "POST /users/{user_id}/grant": "grant role",
    "POST /users/{user_id}/revoke": "revoke role",
    "POST /users/{user_id}/disable": "disable user",
    "POST /users/{user_id}/enable": "enable user",
    "POST /users/{user_id}/sessions/end": "end sign-ins",
    "POST /users/{user_id}/sessions/{session_id}/end": "end sign-in",
    "POST /api/v1/users/{user_id}/grant": "grant role",
    "POST /api/v1/users/{user_id}/revoke": "revoke role",
    "POST /api/v1/users/{user_id}/disable": "disable user",
    "POST /api/v1/users/{user_id}/enable": "enable user",
    "PUT /cases/{case_id}/reading/draft": "save draft",
    "POST /cases/{case_id}/reading": "submit reading",
    "POST /cases/{case_id}/reading/amend": "begin amendment",
    "POST /cases/{case_id}/reading/discard": "discard amendment",
    "PUT /api/v1/readings/{reading_id}": "save draft",
    "POST /api/v1/readings/{reading_id}/submit": "submit reading",
    "POST /api/v1/readings/{reading_id}/amend": "begin amendment",
    "POST /jobs/{job_id}/retry": "retry job",
    "POST /jobs/{job_id}/cancel": "cancel job",
    "POST /api/v1/jobs/{job_id}/retry": "retry job",
    "POST /api/v1/jobs/{job_id}/cancel": "cancel job",
    "POST /deliveries/{delivery_id}/retry": "retry delivery",
    "POST /deliveries/{delivery_id}/hold": "hold delivery",
    "POST /api/v1/deliveries/{delivery_id}/retry": "retry delivery",
    "POST /api/v1/deliveries/{delivery_id}/hold": "hold delivery",
    "POST /dicom-web/studies": "store instance",
    "POST /dicom-web/studies/{study}": "store instance",
}
"""Route to the action that it tells of itself, in the transaction of the act."""


@dataclass
class Site:
    """A filled site with an administrator, and what stands for the parameters of its routes."""

    reading: ReadingSite
    client: TestClient
    values: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    reading = reading_site(tmp_path_factory.mktemp("told"))
    with reading.filled.database.write() as session:
        users.add_user(
            session, AT, "test", name="ada", secret=hash_password(PASSWORDS["ada"]),
            role="administrator",
        )  # fmt: skip
        image = next(
            one
            for one in studies.instances(session, reading.filled.studies["one"])
            if one.standing == "kept"
        )
        result = reading.filled.jobs["one"]
    client = TestClient(build(load(reading.filled.site.root, {})), follow_redirects=False)
    values = {
        "case_id": reading.cases["one"],
        "exam_id": reading.filled.cases["one"],
        "job_id": result,
        "reading_id": reading.reading("one", "rosa").id,
        "study": image.study_uid,
        "series": image.series_uid,
        "instance": image.sop_instance_uid,
        "number": "1",
        "numbers": "1",
        "path:path": "7FE00010",
    }
    return Site(reading, client, values)


def routes() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        app = build(make_site(Path(folder)))
    for route in iter_route_contexts(app.routes):
        path = str(getattr(route, "path", "")).removeprefix("/cases/{case_id}/dicom-web")
        path = f"/dicom-web{path}" if path != getattr(route, "path", "") else path
        for method in sorted(set(getattr(route, "methods", None) or {"GET"}) - {"HEAD"}):
            yield f"{method} {path}"


def test_every_route_is_told_of_or_has_nothing_to_tell() -> None:
    known = SILENT.keys() | TELLS.keys() | SHOWN.keys()
    found = {*routes()}
    assert sorted(found - known) == [], "say in SILENT, TELLS or told.SHOWN what they leave"
    assert sorted(known - found) == [], "these are no routes any more"
    assert not SILENT.keys() & (TELLS.keys() | SHOWN.keys())


NOT_ASKED = {
    "GET /api/v1/cases/{case_id}/compare",
    *("GET /open", "GET /launch/back", "GET /sign-in/{provider}/back"),
    *("GET /why", "GET /api/v1/why", "GET /routes", "GET /api/v1/routes/replay"),
    *(
        "GET /cases/{case_id}/reading",
        "GET /cases/{case_id}/events",
        "GET /cases/{case_id}/compare",
    ),
    *("GET /cases/{case_id}/turn/{result}", "GET /cases/{case_id}/turn/{result}/{number}"),
    *("GET /api/v1/results/{result_id}", "GET /api/v1/results/{result_id}/versions"),
    "GET /api/v1/deliveries/{delivery_id}",
    "GET /jobs/{job_id}/steps/{step}",
    "GET /jobs/{job_id}/steps/{step}/files/{name:path}",
    "GET /jobs/{job_id}/steps/{step}/slices/{index}.png",
    "GET /api/v1/jobs/{job_id}/steps/{step}/files/{name:path}",
}
"""Routes that need more than ids: those of `SHOWN` leave what the middleware leaves for all."""


@pytest.mark.parametrize(
    "route", [one for one in (TELLS | SHOWN) if one.startswith("GET ") and one not in NOT_ASKED]
)
def test_to_look_leaves_a_row_before_anything_is_shown(site: Site, route: str) -> None:
    said = TELLS.get(route) or SHOWN[route][0]
    path = re.sub(r"\{([^}]+)\}", lambda name: site.values[name[1]], route.removeprefix("GET "))
    site.client.app.state.portal.told.clear()  # type: ignore[attr-defined]  # as after ten minutes
    site.client.cookies.clear()
    asker = "rosa" if "/readings" in route and "case_id" not in route else "ada"  # one's own
    assert post_sign_in(site.client, asker, PASSWORDS[asker]).status_code == 303
    before = last(site)
    answer = site.client.get(path, headers={"Accept": _accepted(route)})
    assert answer.status_code == 200, answer.text[:300]
    with site.reading.filled.database.read() as session:
        rows = session.scalars(select(Audit).where(Audit.id > before)).all()
    told = [row for row in rows if row.action == said]
    assert told, f"{route} left {[row.action for row in rows]}"
    assert {(row.actor, row.address) for row in told} == {(asker, "testclient")}
    assert all(row.session for row in told)


def _accepted(route: str) -> str:
    if route.endswith("/rendered"):
        return "image/png"
    if "/frames/" in route or "/bulkdata/" in route:
        return 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    if "dicom-web" in route and not route.endswith(("metadata", "series", "instances", "studies")):
        return 'multipart/related; type="application/dicom"; transfer-syntax=*'
    return "*/*" if "dicom-web" in route else "text/html"


def last(site: Site) -> int:
    with site.reading.filled.database.read() as session:
        return session.scalar(select(Audit.id).order_by(Audit.id.desc()).limit(1)) or 0


ACTS = [
    ("/account/tokens", {"label": "a script", "scope": "case.*"}, "make token"),
    ("/users/{robin}/grant", {"role": "engineer"}, "grant role"),
    ("/users/{robin}/revoke", {"role": "engineer"}, "revoke role"),
    ("/users/{robin}/sessions/{sign_in}/end", {}, "end sign-in"),
    ("/users/{robin}/sessions/end", {}, "end sign-ins"),
    ("/users/{robin}/disable", {}, "disable user"),
    ("/users/{robin}/enable", {}, "enable user"),
    ("/account/sessions/end", {}, "end sign-ins"),
    ("/sign-out", {}, "sign out"),
]


def test_to_act_leaves_a_row_in_the_same_transaction(site: Site) -> None:
    other = TestClient(site.client.app, follow_redirects=False)
    for _ in range(2):
        other.cookies.clear()
        assert post_sign_in(other, "robin", PASSWORDS["robin"]).status_code == 303
    site.client.cookies.clear()
    assert post_sign_in(site.client, "ada", PASSWORDS["ada"]).status_code == 303
    csrf = csrf_of(site.client.get("/account").text)
    with site.reading.filled.database.read() as session:
        robin = users.find_user(session, "robin").id
        sign_in = session.scalars(
            select(SignIn.id).where(SignIn.user_id == robin).order_by(SignIn.created_at)
        ).first()
    values = site.values | {"robin": robin, "sign_in": str(sign_in)}
    for path, form, action in ACTS:
        before = last(site)
        answer = site.client.post(path.format_map(values), data=form | {"csrf": csrf})
        assert answer.status_code in (200, 303), f"{path}: {answer.text[:300]}"
        with site.reading.filled.database.read() as session:
            rows = session.scalars(select(Audit).where(Audit.id > before)).all()
        assert [(row.actor, row.action) for row in rows if row.action == action] == [
            ("ada", action)
        ], path
        assert {row.address for row in rows if row.action == action} == {"testclient"}, path


def test_an_amendment_that_is_given_up_is_told(site: Site) -> None:
    case, client = site.reading.cases["two"], site.client
    with site.reading.filled.database.write() as session:
        session.get_one(Reading, site.reading.reading("two", "rosa").id).state = "submitted"
    client.cookies.clear()
    assert post_sign_in(client, "rosa", PASSWORDS["rosa"]).status_code == 303
    csrf = csrf_of(client.get("/account").text)
    before = last(site)
    for verb in ("amend", "discard"):
        form = {"csrf": csrf, "reason": "a slip of the pen"}
        answer = client.post(f"/cases/{case}/reading/{verb}", data=form)
        assert answer.status_code in (200, 204, 303), answer.text[:300]
    with site.reading.filled.database.read() as session:
        rows = session.scalars(select(Audit).where(Audit.id > before).order_by(Audit.id))
        assert [row.action for row in rows] == ["begin amendment", "discard amendment"]


def test_what_else_changes_something_is_told_where_it_is_tested() -> None:
    """Each other action is looked for in a test of what it does."""
    files = (ROOT / "tests").rglob("test_*.py")
    tests = "\n".join(file.read_text() for file in files if file.name != "test_told.py")
    acts = {action for _, _, action in ACTS} | {"begin amendment", "discard amendment"}
    rest = {action for route, action in TELLS.items() if not route.startswith("GET ")} - acts
    assert sorted(action for action in rest if f'"{action}"' not in tests) == []
