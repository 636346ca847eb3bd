"""Values that are no images: ages, weights, laboratory values."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydicom import Dataset

from overread.dicom.element import parse_address, text
from overread.dicom.study import Exam, Origin, day
from overread.errors import Refused, StepFailed
from overread.measures.units import convert
from overread.operators.select import Address
from overread.pipelines.model import Range
from overread.pipelines.ports import Account, Context
from overread.settings import Duration, Frozen
from overread.validation.results import ClinicalValue, ClinicalValues

UNITS_OF_TAGS = {
    "PatientWeight": "kg",
    "PatientSize": "m",
    "PatientAge": "a",
    "PatientBodyMassIndex": "kg/m2",
}
"""The unit that the Standard gives an attribute (PS3.3 C.7.2.2)."""

_AGE = re.compile(r"([0-9]{3})([DWMY])")
_AGE_UNITS = {"D": "d", "W": "wk", "M": "mo", "Y": "a"}


class Code(Frozen):
    """What an Observation is of.

    Attributes
    ----------
    system, code : str
        As ``Observation.code.coding`` has them: ``http://loinc.org``, ``29463-7``.
    """

    system: Annotated[str, Field(pattern=r"^[^|\s,]+$")]
    code: Annotated[str, Field(pattern=r"^[^|\s,]+$")]


class Fhir(Frozen):
    """A value that a FHIR server has of the exam's patient.

    Attributes
    ----------
    server : str
        One of the site's ``fhir``.
    observation : Code, optional
        Of all observations of this code, the newest one up to the day of the study.
    within : timedelta, optional
        How long before the study it may have been made.
    patient : str, optional
        Instead of an observation: ``birthDate``, which gives the age at the study; or ``gender``.
    """

    server: str
    observation: Code | None = None
    within: Duration | None = None
    patient: Literal["birthDate", "gender"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Fhir:
        if (self.observation is None) == (self.patient is None):
            raise ValueError("fhir asks for one thing; write observation or patient")
        if (self.observation is None) != (self.within is None):
            raise ValueError(
                "an observation is as old as within allows, and nothing else is; write within: "
                "180d beside observation"
            )
        return self

    def __str__(self) -> str:
        what = self.patient or f"observations of {self.observation and self.observation.code}"
        return f"{what} at FHIR server {self.server}"


class Value(Frozen):
    """Where one value comes from, and what it must be.

    Attributes
    ----------
    tag : str, optional
        An attribute of the exam's images, as conditions write it.
    csv : str, optional
        A table of the site's folder ``tables``: comma, semicolon or tab between columns, names in
        the first line, UTF-8.
    fhir : Fhir, optional
        What a FHIR server has of the exam's patient.
    column : str
        The table's column that holds the value.
    match : dict
        Which row: attribute of the exam to the column that says the same. All must agree.
    newest_by : str
        Column of ISO 8601 dates by which the newest row is taken where several match; where it is
        left out, all that match must say the same.
    unit : str
        UCUM unit that the step gives the value in; empty for a text.
    from_unit : str
        UCUM unit that the value stands in; where left out, the Standard's of the attribute, else
        ``unit``. An observation says its own.
    molar_mass : float, optional
        g/mol, between a mass concentration and an amount concentration.
    plausible : tuple of float, optional
        In ``unit``; what lies outside is refused.
    missing : str
        What to do where there is no value: ``refuse`` or ``omit``.
    """

    tag: Address | None = None
    csv: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")] | None = None
    fhir: Fhir | None = None
    column: str = ""
    match: dict[Address, str] = Field(
        default_factory=lambda: {"AccessionNumber": "AccessionNumber"}, min_length=1
    )
    newest_by: str = ""
    unit: str = ""
    from_unit: str = ""
    molar_mass: Annotated[float, Field(gt=0)] | None = None
    plausible: Range | None = None
    missing: Literal["refuse", "omit"] = "refuse"

    @model_validator(mode="after")
    def _whole(self) -> Value:
        if sum(source is not None for source in (self.tag, self.csv, self.fhir)) != 1:
            raise ValueError("a value comes from a tag, a csv or fhir; write one of them")
        if (self.csv is None) == bool(self.column):
            raise ValueError("a csv needs the column that holds the value, nothing else has one")
        if self.fhir and self.fhir.patient and bool(self.unit) != (self.age is not None):
            raise ValueError("birthDate gives an age, gender a text; write unit: a for an age only")
        if self.plausible and not self.unit:
            raise ValueError("plausible is a range of numbers; write their unit")
        if self.unit:
            convert(0.0, self.given_in, self.unit, self.molar_mass)
        return self

    @property
    def age(self) -> str | None:
        """The unit that an age by a FHIR server's birth date stands in; none for anything else."""
        return "d" if self.fhir and self.fhir.patient == "birthDate" else None

    @property
    def given_in(self) -> str:
        """The unit that the value stands in."""
        return self.from_unit or self.age or UNITS_OF_TAGS.get(self.tag or "", self.unit)

    def __str__(self) -> str:
        return str(self.fhir or self.tag or f"{self.csv}, column {self.column}")


@dataclass(frozen=True)
class _Found:
    """A value as it is written, and where; its unit, where that stands beside it."""

    written: str
    where: str
    unit: str = ""


def clinical_values(
    exam: Exam, context: Context, account: Account, *, values: dict[str, Value]
) -> ClinicalValues:
    """Gather values that are no images: from attributes of the exam, a table, or a FHIR server.

    ::

        use: clinical_values
        with:
          values:
            recipient_weight: {csv: transplant.csv, column: weight_kg, unit: kg,
                               match: {AccessionNumber: donor_exam}, plausible: [2, 250]}
            age:       {tag: PatientAge, unit: a}
            bilirubin: {csv: labs.csv, column: bili, match: {PatientID: patient, IssuerOfPatientID:
                        issuer}, newest_by: taken, from_unit: mg/dL, unit: umol/L,
                        molar_mass: 584.66, missing: omit}
            weight:    {fhir: {server: ehr, observation: {system: http://loinc.org, code: 29463-7},
                        within: 180d}, unit: kg}
            age_then:  {fhir: {server: ehr, patient: birthDate}, unit: a}

    A value is never guessed: images or rows that say different things are refused, so is what is
    no number or not plausible, and what is missing, unless the pipeline says ``omit``. PatientAge
    is read with its unit (``018M`` is 1.5 years); where it is absent, it is taken from
    PatientBirthDate and StudyDate, and the value says so.

    Tables lie in the site folder's ``tables/``. The engine reads them before the step and gives it
    the exam's own rows and no others: no step can read a table. A value that is matched without
    PatientID is refused where another patient's images have the exam's accession number too. The
    table's digest is told in the step's account, as a later run may find another.

    Of a FHIR server, the engine asks before the step what ``values`` names, of the exam's own
    patient, and gives the step those values and nothing else: a step has no network. The patient
    is the one whom the server knows by the exam's PatientID in the system of its issuer, and whose
    name, birth date and sex contradict none of the exam's. An observation must be ``final``,
    ``amended`` or ``corrected`` and say its UCUM unit; of one day's, the latest; what differs at
    the same time is refused.

    Parameters
    ----------
    values : dict
        Name to where it comes from: ``tag``; ``csv`` with ``column``, ``match`` and
        ``newest_by``; or ``fhir`` with ``server``, and ``observation`` and ``within``, or
        ``patient``; ``unit``, ``from_unit`` and ``molar_mass`` (UCUM; empty for a text);
        ``plausible``; ``missing``.

    Returns
    -------
    ClinicalValues
        In the order of ``values``, without those omitted.

    Raises
    ------
    Refused
        A value is missing, contradicts itself, is no number, or is not plausible: all of them are
        named. The FHIR server's patient is not the exam's.
    StepFailed
        A table is not there, or has not the columns that it should have. The FHIR server does not
        answer.
    """
    items: list[ClinicalValue] = []
    problems: list[str] = []
    for name, wanted in values.items():
        try:
            found = _one(_found(exam, context, account, name, wanted))
            if found is None:
                told = context.fhir.get(name, {})
                why = told.get("missing", f"nothing is said in {wanted}")
                if wanted.missing == "refuse":
                    raise Refused(f"it is missing: {why}")
                account.unused.append((name, f"omitted: {why}"))
                continue
            items.append(_read(name, found, wanted))
            account.used.append((name, f"{items[-1].value} {items[-1].unit}: {items[-1].source}"))
        except Refused as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise Refused(
            f"values that the pipeline needs beside the images: {'; '.join(problems)}. Correct "
            "them where they come from and send the exam again"
        )
    return ClinicalValues(tuple(items))


def _found(
    exam: Exam, context: Context, account: Account, name: str, wanted: Value
) -> list[_Found]:
    if wanted.tag is not None:
        return _in_tags(exam, wanted.tag)
    if wanted.fhir is not None:
        return _told(name, context)
    return _in_table(exam, context, wanted, account)


def _one(found: list[_Found]) -> _Found | None:
    """Return what all agree on; none where there is nothing."""
    if len({_number(one.written) for one in found}) > 1:
        said = "; ".join(dict.fromkeys(f"{one.written!r} in {one.where}" for one in found))
        raise Refused(f"it is said differently: {said}")
    return found[0] if found else None


def _in_tags(exam: Exam, tag: str) -> list[_Found]:
    address = parse_address(tag)
    found = [
        _Found("\\".join(values), f"{tag} of series {one.header.get('SeriesNumber') or one.uid}")
        for one in exam
        if (values := address.read(one.header, one.origin).values)
    ]
    return list(_ages_by_dates(exam)) if tag == "PatientAge" and not found else found


def _ages_by_dates(exam: Exam) -> Iterator[_Found]:
    for one in exam:
        born, seen = (
            day(found[0]) if (found := text(one.header, name)) else None
            for name in ("PatientBirthDate", "StudyDate")
        )
        if born and seen and seen >= born:
            age = f"{(seen - born).days / 365.25:.2f}"
            yield _Found(age, "PatientBirthDate and StudyDate")


def _told(name: str, context: Context) -> list[_Found]:
    """Return what the engine was told by a FHIR server."""
    if name not in context.fhir:
        raise StepFailed(f"{name}: this step runs where no FHIR server is asked")
    told = context.fhir[name]
    if "refused" in told:
        raise Refused(told["refused"])
    if "missing" in told:
        return []
    return [_Found(told["written"], told["where"], told["unit"])]


def keys_of(headers: Iterable[Dataset], match: Mapping[str, str]) -> dict[str, set[str]]:
    """Return what a row must say to be an exam's: column to what its images say there."""
    held = list(headers)
    return {
        column: {value for one in held for value in parse_address(tag).read(one, _SENT).values}
        for tag, column in match.items()
    }


def row_is_of(row: Mapping[str, str | None], keys: Mapping[str, set[str]]) -> bool:
    """Say whether a row is an exam's."""
    return all(_cell(row, column) in said for column, said in keys.items())


def open_table(lines: Sequence[str]) -> csv.DictReader[str]:
    """Read a table by its lines; its first says what lies between columns."""
    delimiter = max(",;\t", key=lines[0].count if lines else "".count)
    return csv.DictReader(lines, delimiter=delimiter)


def _in_table(exam: Exam, context: Context, wanted: Value, account: Account) -> list[_Found]:
    name = str(wanted.csv)
    if name not in context.tables:
        raise StepFailed(f"table {name} is not there: this step runs without a site folder")
    told = context.tables[name]
    if "refused" in told and "PatientID" not in wanted.match:
        raise Refused(told["refused"])
    rows = open_table(list(io.StringIO(told["rows"], newline="")))
    needed = {wanted.column, *wanted.match.values(), *filter(None, [wanted.newest_by])}
    if lacking := sorted(needed - set(rows.fieldnames or ())):
        raise StepFailed(
            f"table {name} has no column {', '.join(lacking)}; it has "
            f"{', '.join(rows.fieldnames or ()) or 'none'}"
        )
    account.notes.append(f"{name}: SHA-256 {told['sha256']}")
    keys = keys_of((one.header for one in exam), wanted.match)
    found = [
        (rows.line_num, row) for row in rows if row_is_of(row, keys) and _cell(row, wanted.column)
    ]
    if wanted.newest_by and found:
        newest = max(_date(name, number, row, wanted.newest_by) for number, row in found)
        found = [
            (number, row)
            for number, row in found
            if _date(name, number, row, wanted.newest_by) == newest
        ]
    return [
        _Found(_cell(row, wanted.column), f"{name}, line {number}, column {wanted.column}")
        for number, row in found
    ]


_SENT = Origin()


def _cell(row: Mapping[str, str | None], column: str) -> str:
    return (row.get(column) or "").strip()


def _date(name: str, number: int, row: Mapping[str, str | None], column: str) -> datetime:
    written = _cell(row, column)
    try:
        when = datetime.fromisoformat(written)
    except ValueError as error:
        raise StepFailed(
            f"table {name}, line {number}: {column} is {written!r}; a date as 2031-02-14 or "
            "2031-02-14T09:30 was expected"
        ) from error
    return when.replace(tzinfo=None)


def _number(written: str) -> float | str:
    """Return the number that a text is; the text, where it is none."""
    try:
        number = float(written)
    except ValueError:
        return written
    return number if math.isfinite(number) else written


def _read(name: str, found: _Found, wanted: Value) -> ClinicalValue:
    if not wanted.unit:
        return ClinicalValue(name, found.written, "", found.where)
    written, unit = found.written, found.unit or wanted.given_in
    if wanted.tag == "PatientAge" and (age := _AGE.fullmatch(written)):
        written, unit = age[1], _AGE_UNITS[age[2]]
    number = _number(written)
    if isinstance(number, str):
        raise Refused(f"{found.where} is {found.written!r}; a number in {unit} was expected")
    try:
        value = convert(number, unit, wanted.unit, wanted.molar_mass)
    except ValueError as error:  # only of a unit that stands beside the value
        raise Refused(f"{found.where}: {error}") from error
    if wanted.plausible and not wanted.plausible[0] <= value <= wanted.plausible[1]:
        low, high = wanted.plausible
        raise Refused(
            f"{found.where} gives {value:g} {wanted.unit}; {low:g} to {high:g} was expected"
        )
    turned = "" if unit == wanted.unit else f", {number:g} {unit} turned into {wanted.unit}"
    return ClinicalValue(name, round(value, 9), wanted.unit, f"{found.where}{turned}")
