"""Of the site's tables a step is given the exam's own rows, and model code can read no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import select

from overread.engine import worker
from overread.engine.site_tables import asked, of_exam, rows
from overread.errors import StepFailed
from overread.operators.clinical import Value
from overread.store.tables import Instance, Result
from tests.engine.test_sandbox import within
from tests.engine.world import THRESHOLD_STEPS, World, exam_images, pipeline

LABS = '''accession;patient;note;weight
A1;P1;"two
lines; of P1";70
A2;P2;"secret
of P2";80

A1;P3;SECRET;90
A3;P1;"at ""home""";71
'''
WEIGHT: dict[str, Any] = {
    "csv": "labs.csv", "column": "weight", "unit": "kg", "match": {"AccessionNumber": "accession"},
}  # fmt: skip
BOTH = {**WEIGHT, "match": {"AccessionNumber": "accession", "PatientID": "patient"}}
SPY = '''
from pathlib import Path
from overread.pipelines.ports import Account, Context
from overread.validation.results import ClinicalValues, Measurement, Measurements

def spy(values: ClinicalValues, context: Context, account: Account, *, place: str) -> Measurements:
    """Make a measurement of the value, and look for the table it came from."""
    assert not context.tables
    if Path(place).exists():
        raise RuntimeError("it can be read")
    (one,) = values.items
    return Measurements((Measurement(one.name, "x", float(one.value), one.unit, one.source),))
'''


def value(**wanted: Any) -> dict[str, Value]:
    return {"weight": Value.model_validate(wanted)}


def header(accession: str, patient: str) -> Dataset:
    one = Dataset()
    one.AccessionNumber, one.PatientID = accession, patient
    return one


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "labs.csv").write_text(LABS)
    (tmp_path / "other.csv").write_text("x\nSECRET\n")
    return tmp_path


def test_the_rows_of_others_are_not_handed_on(tables: Path) -> None:
    told = rows(value(**BOTH), [header("A1", "P1")], tables)
    assert set(told) == {"labs.csv"}
    text = told["labs.csv"]["rows"]
    assert "lines; of P1" in text and "weight" in text
    assert "P2" not in text and "P3" not in text and "secret" not in text.lower()
    assert len(text.splitlines()) == len(LABS.splitlines())  # so that a line keeps its number
    both = rows(value(**BOTH), [header("A1", "P1"), header("A3", "P1")], tables)
    assert 'at ""home""' in both["labs.csv"]["rows"]
    assert both["labs.csv"]["sha256"] == told["labs.csv"]["sha256"]
    nobody = rows(value(**BOTH), [header("", "")], tables)["labs.csv"]["rows"]
    assert nobody.strip() == "accession;patient;note;weight"


def test_a_table_that_is_none_fails_the_step(tables: Path) -> None:
    (tables / "labs.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(StepFailed, match=r"labs\.csv cannot be read"):
        rows(value(**BOTH), [header("A1", "P1")], tables)
    (tables / "labs.csv").write_text("accession\n" + "x" * 200_000)
    with pytest.raises(StepFailed, match="field larger than"):
        rows(value(**BOTH), [header("A1", "P1")], tables)


def test_a_site_s_own_operator_of_that_name_is_given_nothing() -> None:
    given = {"operator": "clinical_values", "settings": {"values": {"weight": WEIGHT}}}
    assert set(asked({**given, "source": None})) == {"weight"}
    assert asked({**given, "source": "/operators/x.py"}) == {}


def test_no_child_sees_the_tables(world: World) -> None:
    world.build()
    world.site.settings.tables.mkdir()
    (world.site.settings.tables / "labs.csv").write_text(LABS)
    box = worker.box(world.site)
    box.work.mkdir(parents=True)
    assert "labs.csv" not in within(box, "find", str(world.root))


def test_an_accession_number_of_two_patients_says_nothing(world: World) -> None:
    """Of which of both the row is, nobody can know, unless PatientID is matched too."""
    world.build()
    tables = world.site.settings.tables
    tables.mkdir()
    (tables / "labs.csv").write_text(LABS)
    world.arrive(exam_images("one", AccessionNumber="A1", PatientID="P1"))
    with world.database.read() as session:
        images = session.scalars(select(Instance)).all()
        told = of_exam(session, world.archive, images, value(**WEIGHT), tables)
        assert "refused" not in told["labs.csv"]
    world.arrive(exam_images("two", AccessionNumber="A1", PatientID="P3"))
    with world.database.read() as session:
        told = of_exam(session, world.archive, images, value(**WEIGHT), tables)
    assert "accession number A1 is also another patient's" in told["labs.csv"]["refused"]


@pytest.mark.parametrize("wanted", [WEIGHT, BOTH])
def test_a_job_is_given_its_row(world: World, wanted: dict[str, Any]) -> None:
    world.operators = {"spy": SPY}
    place = str(world.root / "tables" / "labs.csv")
    steps = {
        **THRESHOLD_STEPS,
        "values": {"use": "clinical_values", "with": {"values": {"weight": wanted}}},
        "spied": {"use": "spy", "in": {"values": "values"}, "with": {"place": place}},
    }
    world.pipelines = [pipeline(steps, results=["spied"])]
    world.build()
    (world.root / "tables").mkdir()
    Path(place).write_text(LABS.replace("A1;P3;SECRET;90\n", ""))
    world.start()
    world.arrive(exam_images("one", AccessionNumber="A1", PatientID="P1"))
    job = world.wait_for_job("done", "failed", "refused")
    assert job.state == "done", job.reason
    with world.database.read() as session:
        (item,) = session.query(Result).one().data["measurements"]
    assert item["value"] == 70 and item["method"] == "labs.csv, line 3, column weight"
