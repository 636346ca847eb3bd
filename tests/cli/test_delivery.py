from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from overread.cli.main import app
from overread.errors import UsageError
from overread.site import load
from overread.store import deliveries
from overread.store.tables import Audit, Instance
from tests.portal.filled import AT, Filled, Filler
from tests.portal.reading_site import write_site


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    root = tmp_path_factory.mktemp("deliveries")
    write_site(root)
    (root / "routes.yaml").write_text(
        "routes: [{name: brain, when: always, send_to: [CI2_CD_BTS]}]\n"
    )
    filler = Filler(load(root, {}))
    filler.exam("one", accession="PH-1")
    filler.without_case("PH-2")
    return filler.filled


def run(filled: Filled, *words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--json", "--site", str(filled.site.root)])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_deliveries_are_listed_held_and_tried_again(filled: Filled) -> None:
    assert run(filled, "delivery", "list") == []
    with filled.database.write() as session:
        image = session.scalars(select(Instance.id)).first()
        assert image is not None
        one = deliveries.order(session, image, "PACS", cause="job 1", why={}, at=AT)
        one.state, one.error = "failed", "away"
    (listed,) = run(filled, "delivery", "list", "--state", "failed", "--destination", "PACS")
    assert (listed["id"], listed["error"]) == (one.id, "away")
    (held,) = run(filled, "delivery", "hold", one.id[:8])
    assert held["state"] == "held" and held["error"].startswith("held by ")
    (queued,) = run(filled, "delivery", "retry", one.id[:8])
    assert (queued["state"], queued["attempts"]) == ("queued", 0)
    with pytest.raises(UsageError, match="nothing to try again"):
        run(filled, "delivery", "retry", one.id)
    with pytest.raises(UsageError, match="overread delivery list"):
        run(filled, "delivery", "hold", "none")
    with filled.database.read() as session:
        subject = Audit.subject == f"delivery {one.id}"
        told = session.scalars(select(Audit.action).where(subject).order_by(Audit.id)).all()
    assert list(told) == ["hold delivery", "retry delivery"]


def test_routes_are_replayed(filled: Filled) -> None:
    day = f"{AT - timedelta(days=1):%Y-%m-%d}"
    changed = run(filled, "route", "replay", "--since", day, "--changed")
    assert [(one["accession"], one["added"]) for one in changed] == [("PH-2", ["CI2_CD_BTS"])]
    assert len(run(filled, "route", "replay", "--since", day)) == 2
    assert run(filled, "route", "replay", "--since", "2030-01-01") == []


def test_the_site_folder_is_looked_at_as_before(filled: Filled, tmp_path: Path) -> None:
    assert [one["accession"] for one in run(filled, "exam", "list")] == ["PH-1"]
