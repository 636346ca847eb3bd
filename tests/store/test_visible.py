from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from overread.store import enrolments, visible
from overread.store.tables import Exam, Instance, Result
from overread.validation.permissions import Actor, Grant
from tests.portal.filled import AT, Filled, Filler, Patient, make_site


@dataclass
class Kept:
    """An exam in ``liver``, one in ``lung``, one in none; an edit of rosa's on the first."""

    filled: Filled
    edit: int
    """The instance that rosa edited."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    filler = Filler(make_site(tmp_path_factory.mktemp("visible")))
    for name in ("liver", "lung", "none"):
        filler.exam(name, patient=Patient(f"PHANTOM^{name}", f"PH-V-{name}"), accession=name)
    filled = filler.filled
    with filled.database.write() as session:
        for name in ("liver", "lung"):
            enrolments.enrol(session, AT, name, filled.cases[name], "brain-tumour")
        # An edit comes by STOW-RS: it is a copy of what the model made, by another author.
        seg = session.scalars(
            select(Result).where(
                Result.exam_id == filled.cases["liver"], Result.kind == "segmentation"
            )
        ).one()
        made = session.get_one(Instance, seg.instance_id)
        columns = {one.name: getattr(made, one.name) for one in Instance.__table__.columns}
        edit = Instance(**{**columns, "id": None, "sop_instance_uid": "2.25.1", "standing": "kept"})
        session.add(edit)
        session.flush()
        same = {one.name: getattr(seg, one.name) for one in Result.__table__.columns}
        session.add(
            Result(
                **{**same, "id": "e" * 32, "name": "edit", "instance_id": edit.id,
                   "author": "id of rosa", "edits": seg.id, "project": "liver"}
            )
        )  # fmt: skip
        return Kept(filled, edit.id)


def actor(name: str, *grants: Grant) -> Actor:
    return Actor(name, frozenset(grants), f"id of {name}")


def seen(session: Session, who: Actor | None) -> set[str]:
    rows = session.scalars(select(Instance).where(visible.instances(visible.sight(who))))
    return {one.accession for one in rows}


SITE, LIVER = "", "liver"


@pytest.mark.parametrize(
    ("who", "exams"),
    [
        (None, set()),
        (actor("eve"), set()),
        (actor("rosa", Grant("reader", LIVER)), {"liver"}),
        (actor("rosa", Grant("reader", "lung"), Grant("engineer", LIVER)), {"liver", "lung"}),
        (actor("rosa", Grant("reader", "colon")), set()),
        (actor("rosa", Grant("reader", SITE)), {"liver", "lung", "none"}),
        (actor("rosa", Grant("boss", SITE)), set()),
    ],
)
def test_images_are_seen_where_their_exam_is_a_case(
    kept: Kept, who: Actor | None, exams: set[str]
) -> None:
    with kept.filled.database.read() as session:
        assert seen(session, who) == exams
        within = visible.exams(visible.sight(who).cases)
        assert set(session.scalars(select(Exam.accession).where(within))) == exams
        results = select(Exam.accession).join(Result, Result.exam_id == Exam.id)
        found = session.scalars(results.where(visible.results(visible.sight(who))))
        assert set(found) == exams


@pytest.mark.parametrize(
    ("who", "sees"),
    [
        (actor("rosa", Grant("reader", LIVER)), True),
        (actor("rosa", Grant("reader", SITE)), True),
        (actor("otto", Grant("reader", LIVER)), False),
        (actor("otto", Grant("reader", SITE)), False),
        (actor("egon", Grant("engineer", SITE)), False),
        (actor("karla", Grant("coordinator", LIVER)), True),
        (actor("karla", Grant("reader", LIVER), Grant("coordinator", "lung")), False),
        (actor("rosa", Grant("reader", "lung")), False),
        (actor("", Grant("reader", SITE)), False),
    ],
)
def test_an_edit_is_for_its_author_and_who_sees_readings(
    kept: Kept, who: Actor, sees: bool
) -> None:
    with kept.filled.database.read() as session:
        within = visible.instances(visible.sight(who))
        found = session.scalar(select(Instance.id).where(Instance.id == kept.edit, within))
        assert (found is not None) == sees
        edits = select(Result.id).where(Result.author != "", visible.results(visible.sight(who)))
        assert (session.scalar(edits) is not None) == sees


def test_a_second_patient_under_one_study_is_not_seen_with_it(tmp_path: Path) -> None:
    filler = Filler(make_site(tmp_path / "site"))
    filler.exam("mine", accession="A")
    filler.without_case("B")
    filled = filler.filled
    with filled.database.write() as session:
        enrolments.enrol(session, AT, "liver", filled.cases["mine"], "brain-tumour")
        session.execute(
            update(Instance)
            .where(Instance.accession == "B")
            .values(study_uid=filled.studies["mine"])
        )
    with filled.database.read() as session:
        assert seen(session, actor("rosa", Grant("reader", "liver"))) == {"A"}
