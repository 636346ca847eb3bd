from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydicom import Dataset, dcmread

from overread.dicom.study import Exam, Instance
from overread.engine.site_tables import rows
from overread.errors import Refused, StepFailed
from overread.operators import files
from overread.operators.clinical import Value, clinical_values
from overread.pipelines.ports import Account
from overread.validation.results import ClinicalValues
from tests.operators.test_write import CONTEXT

KG = {"system": "http://loinc.org", "code": "29463-7"}
GENDER = {"server": "ehr", "patient": "gender"}


def exam(*series: dict[str, Any]) -> Exam:
    held = []
    for index, values in enumerate(series or ({},)):
        header = Dataset()
        header.SOPInstanceUID, header.SeriesInstanceUID = f"1.{index}", f"2.{index}"
        header.SeriesNumber = index + 1
        header.AccessionNumber, header.PatientID = "A1", "P1"
        for keyword, value in values.items():
            setattr(header, keyword, value)
        held.append(Instance(header))
    return Exam(tuple(held))


def read(given: Exam, tables: Path | None = None, **values: Any) -> ClinicalValues:
    parsed = {name: Value.model_validate(value) for name, value in values.items()}
    from_tables = {name: value for name, value in parsed.items() if value.csv}
    headers = [one.header for one in given]
    context = replace(CONTEXT, tables=rows(from_tables, headers, tables) if tables else {})
    return clinical_values(given, context, Account(), values=parsed)


@pytest.mark.parametrize(
    ("header", "wanted", "value", "unit"),
    [
        ({"PatientWeight": "71.5"}, {"tag": "PatientWeight", "unit": "kg"}, 71.5, "kg"),
        ({"PatientWeight": "70"}, {"tag": "PatientWeight", "unit": "g"}, 70000, "g"),
        ({"PatientSize": "1.80"}, {"tag": "PatientSize", "unit": "cm"}, 180, "cm"),
        ({"PatientAge": "042Y"}, {"tag": "PatientAge", "unit": "a"}, 42, "a"),
        ({"PatientAge": "018M"}, {"tag": "PatientAge", "unit": "a"}, 1.5, "a"),
        ({"PatientAge": "003W"}, {"tag": "PatientAge", "unit": "d"}, 21, "d"),
        (
            {"PatientBirthDate": "19700101", "StudyDate": "20310101"},
            {"tag": "PatientAge", "unit": "a"},
            61.0,
            "a",
        ),
        ({"PatientSex": "F"}, {"tag": "PatientSex"}, "F", ""),
        (
            {"ContrastBolusVolume": "12"},
            {"tag": "ContrastBolusVolume", "unit": "mL"},
            12,
            "mL",
        ),
    ],
)
def test_values_from_tags(header: Any, wanted: Any, value: Any, unit: str) -> None:
    found = read(exam(header), it=wanted).get("it")
    assert found is not None
    assert found.value == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4))
    assert found.unit == unit
    assert found.source


def test_the_source_says_where_and_what_was_done() -> None:
    found = read(exam({"PatientWeight": "70"}), w={"tag": "PatientWeight", "unit": "g"}).get("w")
    assert found is not None
    assert found.source == "PatientWeight of series 1, 70 kg turned into g"
    by_dates = exam({"PatientBirthDate": "19700101", "StudyDate": "20310101"})
    age = read(by_dates, age={"tag": "PatientAge", "unit": "a"}).get("age")
    assert age is not None
    assert age.source == "PatientBirthDate and StudyDate"


def test_an_age_that_some_image_says_is_not_held_against_the_dates_of_others() -> None:
    dates = {"PatientBirthDate": "19700101", "StudyDate": "20310701"}
    mixed = exam({"PatientAge": "061Y", **dates}, {"Modality": "SR", **dates})
    assert read(mixed, age={"tag": "PatientAge", "unit": "a"}).items[0].value == 61
    later = exam(dates, dates | {"StudyDate": "20330701"})
    with pytest.raises(Refused, match=r"said differently: '61\.49' in .*; '63\.50'"):
        read(later, age={"tag": "PatientAge", "unit": "a"})


def test_images_that_agree_are_one_and_those_that_do_not_are_refused() -> None:
    weight = {"tag": "PatientWeight", "unit": "kg"}
    same = exam({"PatientWeight": "70"}, {"PatientWeight": "70.0"}, {})
    assert len(read(same, weight=weight).items) == 1
    with pytest.raises(Refused, match=r"weight: it is said differently: '70' in .*1; '7' in .*2"):
        read(exam({"PatientWeight": "70"}, {"PatientWeight": "7"}), weight=weight)


@pytest.mark.parametrize(
    ("header", "more", "message"),
    [
        ({}, {}, "weight: it is missing: nothing is said in PatientWeight"),
        ({"PatientWeight": "700"}, {}, "gives 700 kg; 2 to 250 was expected"),
        ({"PatientComments": "heavy"}, {"tag": "PatientComments"}, "'heavy'; a number in kg"),
        ({"PatientComments": "nan"}, {"tag": "PatientComments"}, "'nan'; a number in kg"),
        ({"PatientComments": "72,5"}, {"tag": "PatientComments"}, "'72,5'; a number in kg"),
    ],
)
def test_what_is_refused(header: Any, more: Any, message: str) -> None:
    wanted = {"tag": "PatientWeight", "unit": "kg", "plausible": [2, 250], **more}
    with pytest.raises(Refused, match=message):
        read(exam(header), weight=wanted)


def test_all_that_is_wrong_is_named_at_once_and_what_may_be_missing_is_omitted() -> None:
    weight = {"tag": "PatientWeight", "unit": "kg"}
    size = {"tag": "PatientSize", "unit": "m"}
    with pytest.raises(Refused, match=r"weight: it is missing.*size: it is missing"):
        read(exam(), weight=weight, size=size)
    account = Account()
    parsed = {"weight": Value.model_validate({**weight, "missing": "omit"})}
    found = clinical_values(exam(), CONTEXT, account, values=parsed)
    assert found.items == ()
    assert account.unused == [("weight", "omitted: nothing is said in PatientWeight")]


LABS = """accession;patient;issuer;taken;bili;weight
A1;P1;HOSPITAL;2031-01-01;1.0;70
A1;P1;HOSPITAL;2031-02-01T08:00;2.0;70
A2;P1;HOSPITAL;2031-03-01;9.0;80
A1;P2;OTHER;2031-04-01;7.0;70
"""
MATCH = {"AccessionNumber": "accession", "PatientID": "patient"}


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "labs.csv").write_text(LABS, encoding="utf-8-sig")
    return tmp_path


def test_values_from_a_table(tables: Path, tmp_path: Path) -> None:
    found = read(
        exam(),
        tables,
        weight={"csv": "labs.csv", "column": "weight", "match": MATCH, "unit": "kg"},
        bili={
            "csv": "labs.csv",
            "column": "bili",
            "match": MATCH,
            "newest_by": "taken",
            "from_unit": "mg/dL",
            "unit": "umol/L",
            "molar_mass": 584.66,
        },
    )
    weight, bili = found.items
    assert (weight.value, weight.source) == (70, "labs.csv, line 2, column weight")
    assert bili.value == pytest.approx(2 * 17.104, rel=1e-4)
    assert bili.source == "labs.csv, line 3, column bili, 2 mg/dL turned into umol/L"
    files.save(found, tmp_path / "values")
    assert files.load(tmp_path / "values") == found


def test_rows_that_contradict_each_other_are_refused(tables: Path) -> None:
    wanted = {"csv": "labs.csv", "column": "bili", "match": MATCH, "unit": "mg/dL"}
    with pytest.raises(Refused, match=r"'1.0' in labs.csv, line 2.*'2.0' in labs.csv, line 3"):
        read(exam(), tables, bili=wanted)


def test_another_patient_s_row_is_never_taken(tables: Path) -> None:
    match = {"PatientID": "patient", "IssuerOfPatientID": "issuer"}
    wanted = {"csv": "labs.csv", "column": "weight", "match": match, "unit": "kg"}
    with pytest.raises(Refused, match=r"nothing is said in labs\.csv, column weight"):
        read(exam({"PatientID": "P2", "IssuerOfPatientID": "HOSPITAL"}), tables, w=wanted)
    found = read(exam({"PatientID": "P2", "IssuerOfPatientID": "OTHER"}), tables, w=wanted)
    assert found.items[0].source == "labs.csv, line 5, column weight"
    with pytest.raises(Refused, match="missing"):  # the exam does not say whose patient it is
        read(exam({"PatientID": "P2"}), tables, w=wanted)


def test_an_accession_number_that_is_another_patient_s_too_needs_more(tables: Path) -> None:
    for match, refused in ((MATCH, False), ({"AccessionNumber": "accession"}, True)):
        wanted = {"csv": "labs.csv", "column": "weight", "match": match, "unit": "kg"}
        parsed = {"w": Value.model_validate(wanted)}
        told = rows(parsed, [one.header for one in exam()], tables)["labs.csv"]
        context = replace(CONTEXT, tables={"labs.csv": {**told, "refused": "A1 is of two"}})
        if refused:
            with pytest.raises(Refused, match="w: A1 is of two"):
                clinical_values(exam(), context, Account(), values=parsed)
        else:
            assert clinical_values(exam(), context, Account(), values=parsed).items[0].value == 70


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"csv": "other.csv"}, "table other.csv cannot be read"),
        ({"column": "age"}, "has no column age; it has accession, patient, issuer, taken"),
        ({"newest_by": "bili"}, "line 2: bili is '1.0'; a date as 2031-02-14"),
    ],
)
def test_a_table_that_is_wrong_is_the_engineer_s(tables: Path, more: Any, message: str) -> None:
    wanted = {"csv": "labs.csv", "column": "weight", "match": MATCH, "unit": "kg", **more}
    with pytest.raises(StepFailed, match=message):
        read(exam(), tables, weight=wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "a tag, a csv or fhir; write one"),
        ({"tag": "PatientWeight", "csv": "a.csv", "column": "b"}, "a tag, a csv or fhir"),
        ({"tag": "PatientWeight", "fhir": GENDER}, "a tag, a csv or fhir"),
        ({"fhir": {"server": "ehr"}}, "write observation or patient"),
        ({"fhir": {**GENDER, "within": "1d"}}, "within: 180d beside observation"),
        ({"fhir": {**GENDER, "patient": None, "observation": KG}}, "within: 180d beside"),
        ({"fhir": GENDER, "unit": "a"}, "unit: a for an age only"),
        ({"fhir": {"server": "ehr", "patient": "birthDate"}}, "unit: a for an age only"),
        ({"fhir": {"server": "ehr", "patient": "birthDate"}, "unit": "kg"}, "cannot be turned"),
        ({"fhir": {"server": "ehr", "patient": "name"}}, "birthDate"),
        ({"csv": "a.csv"}, "needs the column"),
        ({"csv": "../a.csv", "column": "b"}, "match pattern"),
        ({"tag": "Nonsense"}, "no attribute of DICOM"),
        ({"tag": "PatientWeight", "unit": "m"}, r"kg \(mass\) cannot be turned into m"),
        ({"tag": "PatientWeight", "unit": "stone"}, "'stone' is not known"),
        ({"tag": "PatientSex", "plausible": [1, 2]}, "write their unit"),
        ({"csv": "a.csv", "column": "b", "from_unit": "mg/dL", "unit": "umol/L"}, "molar_mass"),
    ],
)
def test_a_wrong_setting_is_found_when_the_site_is_loaded(wanted: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Value.model_validate(wanted)


def from_fhir(told: dict[str, str], **more: Any) -> Any:
    wanted = {"fhir": {"server": "ehr", "observation": KG, "within": "90d"}, "unit": "kg", **more}
    context = replace(CONTEXT, fhir={"w": told})
    values = {"w": Value.model_validate(wanted)}
    return clinical_values(exam(), context, Account(), values=values).get("w")


def test_values_that_the_engine_was_told_by_a_fhir_server() -> None:
    where = "Observation 7 of 2031-01-01 at FHIR server ehr"
    found = from_fhir({"written": "70500", "unit": "g", "where": where})
    assert (found.value, found.unit) == (70.5, "kg")
    assert found.source == f"{where}, 70500 g turned into kg"
    nothing = {"missing": "FHIR server ehr knows no patients by the exam's PatientID"}
    with pytest.raises(Refused, match=r"w: it is missing: FHIR server ehr knows no patients"):
        from_fhir(nothing)
    assert from_fhir(nothing, missing="omit") is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"refused": "sex is not that of the images"}, "w: sex is not that of the images"),
        ({"written": "7", "unit": "m", "where": "there"}, r"there: m \(length\) cannot be turned"),
        (
            {"written": "7", "unit": "{tot}", "where": "there"},
            "there: the unit '{tot}' is not known",
        ),
        ({"written": "lots", "unit": "kg", "where": "there"}, "there is 'lots'; a number in kg"),
        ({"written": "700", "unit": "kg", "where": "there"}, "there gives 700 kg; 2 to 250"),
    ],
)
def test_what_a_fhir_server_says_is_looked_at(told: dict[str, str], message: str) -> None:
    with pytest.raises(Refused, match=message):  # whatever may be missing
        from_fhir(told, missing="omit", plausible=[2, 250])


def test_without_an_engine_no_fhir_server_is_asked() -> None:
    with pytest.raises(StepFailed, match="w: this step runs where no FHIR server is asked"):
        read(exam(), w={"fhir": GENDER})


def test_real_headers(shared_data: Path) -> None:
    paths = sorted((shared_data / "brain_t1" / "dicoms").glob("*.dcm"))[:3]
    held = Exam(tuple(Instance(dcmread(one, stop_before_pixels=True), one) for one in paths))
    found = read(held, weight={"tag": "PatientWeight", "unit": "kg"})
    assert found.items[0].value == 75
