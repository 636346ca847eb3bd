"""What the demo plays: a patient whose tumour grows, real cases, and exams that go another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from overread.dicom.volume import Volume
from overread.simulator.fruit import fruit
from overread.simulator.images import as_scanned, read_image
from overread.simulator.instances import Order, make_instances, write
from overread.simulator.phantoms import TIME_POINTS, phantom
from overread.simulator.reference import RealCase

_FIRST_EXAM = datetime(2031, 1, 14, 9, 30)  # noqa: DTZ001 - DICOM's times carry no zone
_BETWEEN = timedelta(weeks=8)
_GAP = 11
"""The slice that is left out of the exam that is to be refused."""


class Ending(StrEnum):
    """How an exam is meant to end."""

    RESULT = "result"
    REFUSED = "refused"
    PACS_ONLY = "PACS only"


@dataclass(frozen=True, eq=False)
class Taken:
    """An exam's images, made.

    Attributes
    ----------
    files : tuple of Path
        DICOM files, in the order in which they are sent.
    uids : tuple of str
        Their SOP Instance UIDs, in the order of the slices.
    reference : Volume or None
        What is to be found, on the grid of the images; none where nothing is compared.
    reference_ml : float
        Its true volume, or that of somebody's mask.
    """

    files: tuple[Path, ...]
    uids: tuple[str, ...]
    reference: Volume | None = None
    reference_ml: float = 0.0


@dataclass(frozen=True, eq=False)
class Scene:
    """One exam of the story.

    Attributes
    ----------
    about : str
        What a visitor is told.
    take : callable
        Makes the images in a folder; the same ones every time.
    """

    order: Order
    about: str
    ending: Ending
    take: Callable[[Path], Taken]


def scenes(real: Callable[[], list[RealCase]], first: int | None = None) -> list[Scene]:
    """List the exams of the story, in the order in which they are played.

    Parameters
    ----------
    real : callable
        Returns the real cases; asked only when the story comes to them.
    first : int, optional
        Only so many, from the beginning: six exams of the phantom patient come first.
    """
    told = [_grows(time_point) for time_point in range(TIME_POINTS)]
    if first is None or first > len(told):
        told += [_real(case, number) for number, case in enumerate(real(), start=1)]
        told += [_lacks_a_slice(), _is_a_fruit(), _elsewhere()]
    return told[:first]


def _order(
    number: int, patient: tuple[str, str], study: str, performed: datetime, seed: str
) -> Order:
    return Order(
        seed=f"demo {seed}",
        patient_id=patient[0],
        patient_name=patient[1],
        patient_birth_date="19700101",
        patient_sex="O",
        accession=f"DEMO{number:04d}",
        study_description=study,
        series_description="AX T1 POST",
        station_name="MRPILOT1",
        performed=performed,
        attributes={"BodyPartExamined": "HEAD", "ContrastBolusAgent": "Fictional contrast"},
    )


def _grows(time_point: int) -> Scene:
    when = _FIRST_EXAM + time_point * _BETWEEN
    order = _order(
        1 + time_point, ("PHANTOM-6", "PHANTOM^SIX"), "MRI BRAIN NAVIGATION", when, f"{time_point}"
    )

    def take(folder: Path) -> Taken:
        scan = phantom(time_point)
        made = make_instances(scan.image, order)
        uids = tuple(str(one.SOPInstanceUID) for one in made)
        return Taken(tuple(write(made, folder)), uids, scan.truth, scan.millilitres)

    about = f"a drawn head, week {time_point * _BETWEEN.days // 7}: the tumour grows"
    return Scene(order, about, Ending.RESULT, take)


def _real(case: RealCase, number: int) -> Scene:
    patient = (f"REAL-{number}", f"REAL^{case.name.upper()}")
    when = _FIRST_EXAM + timedelta(days=number)
    order = _order(10 + number, patient, "MRI BRAIN W CONTRAST", when, case.name)

    def take(folder: Path) -> Taken:
        reference = case.reference()
        made = make_instances(as_scanned(read_image(case.image)), order)
        uids = tuple(str(one.SOPInstanceUID) for one in made)
        volume = float(reference.array.sum()) * reference.voxel_volume / 1000
        return Taken(tuple(write(made, folder)), uids, reference, volume)

    return Scene(order, case.about, Ending.RESULT, take)


def _lacks_a_slice() -> Scene:
    patient = ("PHANTOM-7", "PHANTOM^GAP")
    order = _order(21, patient, "MRI BRAIN NAVIGATION", _FIRST_EXAM, "gap")

    def take(folder: Path) -> Taken:
        made = make_instances(phantom(1, seed=7).image, order)
        del made[_GAP]
        return Taken(tuple(write(made, folder)), tuple(str(one.SOPInstanceUID) for one in made))

    return Scene(order, "a slice is missing: no volume can be trusted", Ending.REFUSED, take)


def _is_a_fruit() -> Scene:
    patient = ("PHANTOM-9", "PHANTOM^MELON")
    order = _order(23, patient, "MRI BRAIN NAVIGATION", _FIRST_EXAM, "melon")

    def take(folder: Path) -> Taken:
        made = make_instances(fruit("watermelon"), order)
        return Taken(tuple(write(made, folder)), tuple(str(one.SOPInstanceUID) for one in made))

    about = "a melon whose headers say that it is a brain: no head, no volume"
    return Scene(order, about, Ending.REFUSED, take)


def _elsewhere() -> Scene:
    patient = ("PHANTOM-8", "PHANTOM^ORBIT")
    order = _order(22, patient, "MRI ORBITS", _FIRST_EXAM, "orbits")

    def take(folder: Path) -> Taken:
        made = make_instances(phantom(0, seed=8).image, order)
        return Taken(tuple(write(made, folder)), tuple(str(one.SOPInstanceUID) for one in made))

    return Scene(order, "no route to a model: to the PACS only", Ending.PACS_ONLY, take)
