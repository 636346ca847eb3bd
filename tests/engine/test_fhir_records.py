"""Whether a FHIR server's patient is the exam's, and which of its observations counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from overread.engine.fhir_records import (
    Observation,
    Patient,
    Subject,
    contradictions,
    of_observations,
    of_patient,
    subject,
)
from overread.errors import Refused
from overread.operators.clinical import Value
from tests.engine.fhir_double import LOINC, patient, weight

EXAM = Subject("TEST-1", "", ("Müller^Jane",), ("19700101",), ("F",), date(2026, 7, 15))
IMAGE = {
    "patient_id": "TEST-1", "issuer": "", "patient_name": "Müller^Jane",
    "patient_birth_date": "19700101", "patient_sex": "F", "study_date": "20260715",
}  # fmt: skip


def asking(unit: str = "kg", **more: Any) -> Value:
    code = {"system": LOINC, "code": "29463-7"}
    fhir = {"server": "ehr", "observation": code, "within": "180d"}
    return Value.model_validate({"fhir": fhir, "unit": unit, **more})


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ({"family": "Müller", "given": ["Jane"]}, False),
        ({"family": "MUELLER", "given": ["Jane Dora"]}, False),
        ({"family": "Muller", "given": ["J."]}, False),
        ({"family": "Müller"}, False),
        ({"text": "Dr. Jane Müller"}, False),
        ({"family": "Müller", "given": ["Joan"]}, True),
        ({"family": "Möller", "given": ["Jane"]}, True),
        ({"text": "Dr. Jane Miller"}, True),
        ({"family": "", "given": ["Jane"]}, True),
    ],
)
def test_names(name: dict[str, Any], differs: bool) -> None:
    told = contradictions(Patient.model_validate(patient(name=[name])), EXAM)
    assert told == (["name"] if differs else [])


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("van der Berg^Anna", {"family": "Van der Berg", "given": ["Anna"]}),
        ("van der Berg^Anna", {"text": "Anna van der Berg"}),
        ("Smith-Jones^Al", {"family": "Smith Jones", "given": ["Al"]}),
        ("Yamada^Tarou=山田^太郎", {"family": "山田", "given": ["太郎"]}),
        ("Søren^Åse", {"family": "Soeren", "given": ["Aase"]}),
        ("O'Neil^Mary^^Dr.", {"family": "ONeil", "given": ["Mary"]}),
    ],
)
def test_one_name_written_in_two_ways(written: str, name: dict[str, Any]) -> None:
    held = Patient.model_validate(patient(name=[{"family": "Other"}, name]))
    assert contradictions(held, replace(EXAM, names=(written,))) == []


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"birthDate": "1970"}, []),
        ({"birthDate": "1970-01"}, []),
        ({"birthDate": ""}, []),
        ({"birthDate": "1970-01-02"}, ["birth date"]),
        ({"gender": "male"}, ["sex"]),
        ({"gender": "unknown"}, []),
        ({"gender": "male", "birthDate": "1971"}, ["birth date", "sex"]),
    ],
)
def test_birth_date_and_sex(changes: dict[str, Any], differs: list[str]) -> None:
    assert contradictions(Patient.model_validate(patient(**changes)), EXAM) == differs


def test_what_the_images_do_not_say_contradicts_nothing() -> None:
    held = Patient.model_validate(patient(gender="male", birthDate="1901-01-01"))
    assert contradictions(held, replace(EXAM, names=(), birth_dates=(), sexes=())) == []


def test_an_exam_is_of_one_patient() -> None:
    assert subject([IMAGE, {**IMAGE, "patient_sex": ""}]) == EXAM
    assert subject([IMAGE, {**IMAGE, "study_date": "20260801"}]).studied == date(2026, 8, 1)
    assert subject([IMAGE, {**IMAGE, "issuer": "H"}]).issuer == "H"
    for other in (
        {"patient_id": "TEST-2"},
        {"patient_id": "TEST-2", "issuer": "H"},
    ):
        with pytest.raises(Refused, match="2 PatientIDs"):
            subject([IMAGE, {**IMAGE, **other}])
    with pytest.raises(Refused, match="0 PatientIDs"):
        subject([{**IMAGE, "patient_id": ""}])
    with pytest.raises(Refused, match="2 issuers"):
        subject([{**IMAGE, "issuer": "H"}, {**IMAGE, "issuer": "G"}])
    with pytest.raises(Refused, match="no StudyDate"):
        subject([{**IMAGE, "study_date": ""}])


def chosen(*observations: Any, zone: str = "UTC", **more: Any) -> dict[str, str]:
    read = [Observation.model_validate(one) for one in observations]
    return of_observations(read, asking(**more), EXAM, zone)


def test_the_newest_up_to_the_day_of_the_study_counts() -> None:
    held = [
        weight("old", "2026-01-01", 60),
        weight("w1", "2026-07-01", 70),
        weight("w2", "2026-07-15T23:00:00Z", 71.5),
        weight("later", "2026-07-16T00:30:00Z", 99),
        weight("vague", "2026-07", 98),
        weight("wrong", "2026-07-15", 97, status="entered-in-error"),
        weight("soon", "2026-07-15", 96, status="preliminary"),
        weight("other", "2026-07-15", 95, code={"coding": [{"system": LOINC, "code": "1-1"}]}),
        weight("none", "2026-07-15", None),
    ]
    assert chosen(*held) == {
        "written": "71.5",
        "unit": "kg",
        "where": "Observation w2 of 2026-07-15 at FHIR server ehr",
    }
    assert chosen(*held, zone="Asia/Tokyo")["where"].startswith("Observation w1 ")  # 16 July there
    left = held[:1] + held[3:]
    assert chosen(*left)["missing"] == (
        "FHIR server ehr has no observation 29463-7 in the 180 days up to 2026-07-15; 1 too old; "
        "1 of after the study; 1 not dated to the day; 1 entered-in-error; 1 preliminary; "
        "1 of another code; 1 without a value"
    )
    assert chosen(weight("w", "2026-01-16", 60))["written"] == "60"
    assert "1 too old" in chosen(weight("w", "2026-01-15", 60))["missing"]


def test_what_differs_at_one_time_is_refused() -> None:
    noon, evening = "2026-07-01T12:00:00Z", "2026-07-01T18:00:00Z"
    assert chosen(weight("a", noon, 70), weight("b", evening, 71))["written"] == "71"
    assert chosen(weight("a", noon, 70), weight("b", noon, 70))["written"] == "70"
    for when in (noon, "2026-07-01"):  # a day may be any time of it
        told = chosen(weight("a", noon, 70), weight("b", when, 71))
        assert told == {
            "refused": "2 observations 29463-7 of 2026-07-01 at FHIR server ehr say different "
            "things"
        }


def test_what_is_no_number_with_a_unit_is_refused() -> None:
    less = {"value": 5, "comparator": "<", "code": "kg", "system": "http://unitsofmeasure.org"}
    assert (
        "is only known to be < 5"
        in chosen(weight("a", "2026-07-01", 5, valueQuantity=less))["refused"]
    )
    for other in ({"value": 70, "unit": "kg"}, {"value": 70, "code": "kg", "system": "urn:x"}):
        told = chosen(weight("a", "2026-07-01", 5, valueQuantity=other))
        assert "says no UCUM unit" in told["refused"]
        told = chosen(weight("a", "2026-07-01", 5, valueQuantity=other), from_unit="g")
        assert (told["written"], told["unit"]) == ("70", "g")


def test_texts() -> None:
    coded = {"coding": [{"system": "http://snomed.info/sct", "code": "260385009"}]}
    for value, text in (
        ({"valueString": "negative"}, "negative"),
        ({"valueInteger": 3}, "3"),
        ({"valueCodeableConcept": coded}, "260385009"),
        ({"valueCodeableConcept": {"text": "negative"}}, "negative"),
    ):
        one = weight("a", "2026-07-01", 0, valueQuantity=None, **value)
        assert chosen(one, unit="")["written"] == text
    period = weight("a", "", 70, effectivePeriod={"start": "2026-06-01", "end": "2026-06-02"})
    assert "of 2026-06-02" in chosen(period)["where"]


def test_age_and_gender() -> None:
    age = Value.model_validate({"fhir": {"server": "ehr", "patient": "birthDate"}, "unit": "a"})
    gender = Value.model_validate({"fhir": {"server": "ehr", "patient": "gender"}})

    def told(value: Value, **changes: Any) -> dict[str, str]:
        return of_patient(Patient.model_validate(patient(**changes)), value, EXAM)

    assert told(age) == {
        "written": str((date(2026, 7, 15) - date(1970, 1, 1)).days),
        "unit": "d",
        "where": "birthDate of Patient p1 at FHIR server ehr and StudyDate 2026-07-15",
    }
    assert told(age, birthDate="1970")["refused"].endswith("is not known to the day")
    assert told(age, birthDate="2027-01-01")["refused"].endswith("is after StudyDate")
    assert told(age, birthDate="")["missing"].endswith("is not said")
    assert told(gender)["written"] == "female"
    assert told(gender, gender="")["missing"].endswith("is not said")
