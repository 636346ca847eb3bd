"""What a FHIR server's records say of an exam's patient: whether it is that patient, which value.

Resources are those of FHIR R4 (HL7 FHIR release 4.0.1; R5 has the same in what is read here), and
of them only what is needed. Nothing here asks a server.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from overread.dicom.study import day
from overread.errors import Refused
from overread.operators.clinical import Code, Value

UCUM = "http://unitsofmeasure.org"
FINAL = ("final", "amended", "corrected")
"""Of ObservationStatus: what stands, and not what is preliminary, cancelled or was an error."""

_SEX = {"M": "male", "F": "female", "O": "other"}
"""PatientSex (PS3.3 C.7.1.1) to AdministrativeGender."""

_LETTERS = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class _Coding(_Part):
    system: str = ""
    code: str = ""


class _Concept(_Part):
    coding: tuple[_Coding, ...] = ()
    text: str = ""


class _Identifier(_Part):
    use: str = ""
    system: str = ""
    value: str = ""


class _Name(_Part):
    family: str = ""
    given: tuple[str | None, ...] = ()
    text: str = ""


class _Link(_Part):
    type: str = ""


class Patient(_Part):
    """FHIR's Patient."""

    id: str = Field(pattern=r"^[A-Za-z0-9.-]{1,64}$")
    active: bool = True
    identifier: tuple[_Identifier, ...] = ()
    name: tuple[_Name, ...] = ()
    gender: str = ""
    birth_date: str = ""
    link: tuple[_Link, ...] = ()


class _Quantity(_Part):
    value: Decimal | None = None
    comparator: str = ""
    system: str = ""
    code: str = ""


class _Period(_Part):
    start: str = ""
    end: str = ""


class _Reference(_Part):
    reference: str = ""


class Observation(_Part):
    """FHIR's Observation, with those kinds of values that are a number or a text."""

    id: str = Field(pattern=r"^[A-Za-z0-9.-]{1,64}$")
    status: str = ""
    code: _Concept = _Concept()
    subject: _Reference = _Reference()
    effective_date_time: str = ""
    effective_instant: str = ""
    effective_period: _Period = _Period()
    value_quantity: _Quantity | None = None
    value_integer: int | None = None
    value_string: str | None = None
    value_codeable_concept: _Concept | None = None

    @property
    def effective(self) -> str:
        """When what was observed was so, as written; of a period its end."""
        period = self.effective_period.end or self.effective_period.start
        return self.effective_date_time or self.effective_instant or period


@dataclass(frozen=True)
class Subject:
    """The patient and the day of an exam, as its images have them.

    Attributes
    ----------
    patient_id, issuer : str
        PatientID, and its issuer where one is known.
    names, birth_dates, sexes : tuple of str
        All that the images say, as DICOM writes it.
    studied : date
        StudyDate; of several studies the latest.
    """

    patient_id: str
    issuer: str
    names: tuple[str, ...]
    birth_dates: tuple[str, ...]
    sexes: tuple[str, ...]
    studied: date


def subject(images: Iterable[Mapping[str, str]]) -> Subject:
    """Make one patient of what an exam's images say.

    Parameters
    ----------
    images : iterable of mapping
        Of each image ``patient_id``, ``issuer``, ``patient_name``, ``patient_birth_date``,
        ``patient_sex`` and ``study_date``; empty where it says nothing.

    Raises
    ------
    Refused
        They name no patient, several, or no StudyDate.
    """
    rows = list(images)

    def said(key: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row[key] for row in rows if row[key]))

    ids, issuers = said("patient_id"), said("issuer")
    if len(ids) != 1 or len(issuers) > 1:
        raise Refused(
            f"the images name {len(ids)} PatientIDs of {len(issuers)} issuers; a FHIR server can "
            "be asked for one patient only"
        )
    days = [found for value in said("study_date") if (found := day(value))]
    if not days:
        raise Refused("the images have no StudyDate, so no value can be the one of that day")
    return Subject(
        ids[0],
        "".join(issuers),
        said("patient_name"),
        said("patient_birth_date"),
        said("patient_sex"),
        max(days),
    )


def contradictions(patient: Patient, exam: Subject) -> list[str]:
    """Name what of a server's patient is not as the images have it, without any of its values."""
    told = []
    if patient.birth_date and not all(
        found is None or found.isoformat().startswith(patient.birth_date)
        for found in map(day, exam.birth_dates)
    ):
        told.append("birth date")
    gender = patient.gender if patient.gender in _SEX.values() else ""
    if gender and not all(_SEX.get(one, gender) == gender for one in exam.sexes):
        told.append("sex")
    if patient.name and not all(
        any(_same_name(group, name) for group in written.split("=") for name in patient.name)
        for written in exam.names
    ):
        told.append("name")
    return told


def _same_name(written: str, name: _Name) -> bool:
    """Say whether a component group of a PN (PS3.5 6.2.1) and a HumanName can be one person's.

    The family names must be the same, and the first given names, where both have one; an initial
    stands for a name. Accents, case, hyphens and titles say nothing.
    """
    family, _, rest = written.partition("^")
    given = rest.partition("^")[0]
    theirs = next((one for one in name.given if one), "")
    if not name.family:  # written as one text, in any order
        words = name.text.split()
        runs = (words[at:to] for at in range(len(words)) for to in range(at + 1, len(words) + 1))
        return bool(_forms(family) & {form for run in runs for form in _forms("".join(run))})
    if not _forms(family) & _forms(name.family):
        return False
    first, other = _forms(given.split(" ")[0]), _forms(theirs.split(" ")[0])
    if not first or not other:
        return True
    short = min(map(len, first | other)) == 1
    return any(a == b or (short and a[0] == b[0]) for a in first for b in other)


def _forms(text: str) -> set[str]:
    """Return the ways to write a name in plain letters: Müller is ``muller`` and ``mueller``."""
    folded = unicodedata.normalize("NFC", text).casefold()
    spelt = "".join(_LETTERS.get(letter, letter) for letter in folded)
    plain = folded.replace("ø", "o").replace("æ", "a").replace("œ", "o")
    return {form for one in (spelt, plain) if (form := _letters(one))}


def _letters(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text) if one.isalnum())


def of_patient(patient: Patient, value: Value, exam: Subject) -> dict[str, str]:
    """Return an age at the study, in days, or a gender; see `overread.pipelines.ports.Context`."""
    wanted = value.fhir
    assert wanted is not None  # noqa: S101, for the type checker
    where = f"{wanted.patient} of Patient {patient.id} at FHIR server {wanted.server}"
    if wanted.patient == "gender":
        if not patient.gender:
            return {"missing": f"{where} is not said"}
        return {"written": patient.gender, "unit": "", "where": where}
    if not patient.birth_date:
        return {"missing": f"{where} is not said"}
    try:
        born = date.fromisoformat(patient.birth_date)
    except ValueError:
        return {"refused": f"{where} is not known to the day"}
    if born > exam.studied:
        return {"refused": f"{where} is after StudyDate"}
    where = f"{where} and StudyDate {exam.studied}"
    return {"written": str((exam.studied - born).days), "unit": "d", "where": where}


def of_observations(
    observations: Sequence[Observation], value: Value, exam: Subject, zone: str
) -> dict[str, str]:
    """Choose the newest observation up to the day of the study, and say what it gives.

    Parameters
    ----------
    observations : sequence of Observation
        The patient's, all of them of the window at least.
    value : Value
        Asks for an observation. Its ``from_unit`` is the unit of one that says none.
    zone : str
        In which an instant has its day.

    Returns
    -------
    dict
        See `overread.pipelines.ports.Context`.
    """
    wanted = value.fhir
    assert wanted and wanted.observation and wanted.within is not None  # noqa: S101, as `Fhir` says
    code, within = wanted.observation, wanted.within
    left: dict[str, int] = {}
    found: list[tuple[date, datetime | None, Observation]] = []
    for one in observations:
        when = _when(one.effective, ZoneInfo(zone))
        if why := _useless(one, code, when):
            left[why] = left.get(why, 0) + 1
        elif when is not None and not 0 <= (exam.studied - when[0]).days <= within.days:
            which = "of after the study" if when[0] > exam.studied else "too old"
            left[which] = left.get(which, 0) + 1
        elif when is not None:
            found.append((*when, one))
    if not found:
        counted = "".join(f"; {number} {why}" for why, number in left.items())
        return {
            "missing": f"FHIR server {wanted.server} has no observation {code.code} in the "
            f"{within.days} days up to {exam.studied}{counted}"
        }
    latest = max(when for when, _, _ in found)
    of_day = [(moment, one) for when, moment, one in found if when == latest]
    moments = [moment for moment, _ in of_day if moment is not None]
    if len(moments) == len(of_day):  # else one of them may be of any time of the day
        of_day = [(moment, one) for moment, one in of_day if moment == max(moments)]
    told = [_value(one, latest, wanted.server, value) for _, one in of_day]
    told.sort(key=lambda one: one.get("where", ""))
    if len({(one.get("written"), one.get("unit"), one.get("refused")) for one in told}) > 1:
        return {
            "refused": f"{len(told)} observations {code.code} of {latest} at FHIR server "
            f"{wanted.server} say different things"
        }
    return told[0]


def _useless(one: Observation, code: Code, when: tuple[date, datetime | None] | None) -> str:
    """Say why an observation counts for nothing; empty where it may count."""
    if not any((at.system, at.code) == (code.system, code.code) for at in one.code.coding):
        return "of another code"
    if one.status not in FINAL:
        return one.status or "without a status"
    if next(_written(one), None) is None:
        return "without a value"
    return "" if when else "not dated to the day"


def _when(written: str, zone: ZoneInfo) -> tuple[date, datetime | None] | None:
    """Read a dateTime: its day, and its moment where it has one. None where it is vaguer."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", written):
            return date.fromisoformat(written), None
        moment = datetime.fromisoformat(written) if "T" in written else None
    except ValueError:
        return None
    if moment is None:
        return None
    moment = moment.astimezone(zone) if moment.tzinfo else moment.replace(tzinfo=zone)
    return moment.date(), moment


def _written(one: Observation) -> Iterator[str]:
    """Yield the value of an observation as text."""
    concept = one.value_codeable_concept
    values: tuple[Any, ...] = (
        one.value_quantity.value if one.value_quantity else None,
        one.value_integer,
        one.value_string,
        next((at.code for at in concept.coding if at.code), concept.text) if concept else None,
    )
    return (f"{value}" for value in values if value not in (None, ""))


def _value(one: Observation, made: date, server: str, value: Value) -> dict[str, str]:
    where = f"Observation {one.id} of {made} at FHIR server {server}"
    quantity = one.value_quantity or _Quantity()
    if quantity.comparator:
        return {"refused": f"{where} is only known to be {quantity.comparator} {quantity.value}"}
    unit = quantity.code if quantity.system == UCUM else value.from_unit
    if value.unit and not unit:
        return {"refused": f"{where} says no UCUM unit; from_unit in the pipeline would say it"}
    return {"written": next(_written(one)), "unit": unit, "where": where}
