from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from overread.dicom import match
from overread.dicom.study import Origin
from overread.routing.rules import Route, decide
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.instances import keep, take
from overread.store.replay import Replay, replay
from tests.portal.filled import AT, Patient, as_file, lesion, mr_slices

BRAIN = Route(name="brain", when=match.parse({"StudyDescription": "MR BRAIN"}), send_to=("MODEL",))
ALL = Route(name="all", when=match.parse("always"), send_to=("PACS",))


class Kept:
    """Two series, routed by one rule when they came."""

    def __init__(self, root: Path) -> None:
        self.database = Database(f"sqlite:///{root / 'x.sqlite'}")
        self.database.upgrade()
        self.archive = Archive(root / "archive")
        origin = Origin("SCANNER", "OVERREAD", "127.0.0.1")
        with self.database.write() as session:
            for number, name in enumerate(("MR BRAIN", "MR KNEE")):
                at = AT + timedelta(days=number)
                for one in mr_slices(name, Patient(), name, "20260602", name, lesion(5))[:2]:
                    keep(
                        session, self.archive, take(self.archive, as_file(one), at), at=at,
                        origin=origin, association_id=None,
                        decisions=decide([BRAIN], one, origin), pipelines={"MODEL"},
                    )  # fmt: skip

    def replay(self, *routes: Route, days: int = 0, until: int | None = None) -> Replay:
        with self.database.read() as session:
            end = None if until is None else AT + timedelta(days=until)
            return replay(session, self.archive, routes, AT + timedelta(days=days), end)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("replay"))


def changes(told: Replay) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {one.instance.study_description: (one.added, one.dropped) for one in told.series}


def test_the_same_rules_change_nothing(kept: Kept) -> None:
    told = kept.replay(BRAIN)
    assert changes(told) == {"MR BRAIN": ((), ()), "MR KNEE": ((), ())}
    assert (told.unread, told.is_cut) == (0, False)
    assert told.series[0].did == told.series[0].would == ("MODEL",)


def test_other_rules_add_and_drop(kept: Kept) -> None:
    assert changes(kept.replay(ALL)) == {
        "MR BRAIN": (("PACS",), ("MODEL",)),
        "MR KNEE": (("PACS",), ()),
    }


def test_only_what_came_in_that_time(kept: Kept) -> None:
    assert set(changes(kept.replay(BRAIN, days=1))) == {"MR KNEE"}
    assert set(changes(kept.replay(BRAIN, until=1))) == {"MR BRAIN"}


def test_more_than_it_looks_at_is_said(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.store.replay.MOST", 1)
    told = kept.replay(BRAIN)
    assert told.is_cut and set(changes(told)) == {"MR BRAIN"}


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for file in (tmp_path / "archive").rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.unlink()
    told = kept.replay(BRAIN)
    assert (told.series, told.unread) == ((), 2)
