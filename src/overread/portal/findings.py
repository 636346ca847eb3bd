"""What was found in images, laid out for a page: each image with its boxes, each box with words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.pixel_spacing import pixel_spacing
from overread.dicom.study import sides
from overread.portal.dicomweb.metadata import instance_url
from overread.store.archive import Archive
from overread.store.cases import Case, Shown
from overread.store.tables import ExamInstance, Instance
from overread.validation.results import Class, Detection

VIEWPORT = 1600
"""Longer side in pixels that an image is rendered at most with."""


@dataclass(frozen=True)
class Bar:
    """One class with its probability.

    Attributes
    ----------
    name : str
    value : float
        0 to 1.
    is_most : bool
        Whether it is the most probable one.
    """

    name: str
    value: float
    is_most: bool


@dataclass(frozen=True)
class Finding:
    """One thing that was found, or one region or image that was classified.

    Attributes
    ----------
    id : str
        Unique on the page.
    region : str
        What was detected, or which region was classified; empty for a whole image.
    label : str
        Its class; empty where nothing classified it.
    value : float
        Probability of the class, or score of the detection.
    score : float or None
        Score of the detection behind it.
    bars : tuple of Bar
        Every class, in the model's order.
    colour : str
        ``#rrggbb``.
    box : tuple of float or None
        ``x, y, width, height`` in pixels of the image.
    """

    id: str
    region: str
    label: str
    value: float
    score: float | None
    bars: tuple[Bar, ...]
    colour: str
    box: tuple[float, float, float, float] | None

    @property
    def words(self) -> str:
        """What stands at its box."""
        return f"{': '.join(part for part in (self.region, self.label) if part)} {self.value:.2f}"


@dataclass(frozen=True)
class Picture:
    """An image that was looked at.

    Attributes
    ----------
    url : str
        Where it is rendered; empty where the image is not among the exam's any more.
    name : str
        What a person calls it.
    columns, rows : int
        Its size in pixels.
    findings : tuple of Finding
    sides : tuple of str or None
        Letters of the patient's sides at its left and its right, where it says them.
    image : str
        Its SOP Instance UID.
    frame : int
        Index of its frame, from 0.
    aspect : float
        Height of a pixel over its width.
    """

    url: str
    name: str
    columns: int
    rows: int
    findings: tuple[Finding, ...]
    sides: tuple[str, str] | None
    image: str
    frame: int
    aspect: float = 1.0

    @property
    def unit(self) -> float:
        """Height of a letter in its pixels, so that words are as large on every image."""
        return max(self.columns, self.rows) / 44

    @property
    def words(self) -> str:
        """What it shows, for who cannot see it."""
        found = "; ".join(one.words for one in self.findings) or "nothing was found"
        return f"{self.name}: {found}"


def pictures(session: Session, archive: Archive, case: Case, shown: Shown) -> list[Picture]:
    """Lay out the images of a case in which something was looked for, in the order of the results.

    Parameters
    ----------
    case : Case
        With what was detected and classified.
    shown : Shown
        With the exam revision that it is of.
    """
    places = _places(case)
    if not places or shown.exam is None:
        return []
    instances = _instances(session, shown.exam.id, {uid for uid, _ in places})
    several = len(places) > 1
    laid = []
    number = 0
    for index, (uid, frame) in enumerate(places, start=1):
        instance = instances.get(uid)
        findings = _findings(case, uid, frame, number)
        number += len(findings)
        if instance is None or not instance.rows or not instance.columns:
            continue
        name = instance.series_description or instance.modality
        header = dcmread(archive.path(instance.key), stop_before_pixels=True)
        laid.append(
            Picture(
                url=rendered(instance, frame + 1, VIEWPORT),
                name=f"{name}, image {index} of {len(places)}" if several else name,
                columns=instance.columns,
                rows=instance.rows,
                findings=tuple(findings),
                sides=sides(header),
                image=uid,
                frame=frame,
                aspect=pixel_spacing(header, frame).aspect,
            )
        )
    return laid


def rendered(instance: Instance, frame: int = 0, viewport: int = 0) -> str:
    """Return the address at which an instance, or one frame of it from 1, is rendered."""
    path = quote(instance_url("/dicom-web", instance))
    path += f"/frames/{frame}/rendered" if frame else "/rendered"
    return path + (f"?viewport={viewport},{viewport}" if viewport else "")


def _places(case: Case) -> list[tuple[str, int]]:
    """List the images that were looked at, and their frames that something was said of."""
    said = [(one.image, one.frame) for one in case.detections]
    said += [(one.image, one.frame) for one in case.classes]
    looked = [uid for found in case.detected for uid in found.images]
    looked += [uid for found in case.classified for uid in found.images]
    places = []
    for uid in dict.fromkeys([*looked, *(image for image, _ in said)]):
        frames = sorted({frame for image, frame in said if image == uid})
        places += [(uid, frame) for frame in frames or [0]]
    return places


def _instances(session: Session, exam_id: str, uids: Iterable[str]) -> dict[str, Instance]:
    rows = session.scalars(
        select(Instance)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .where(ExamInstance.exam_id == exam_id, Instance.sop_instance_uid.in_(list(uids)))
    )
    return {one.sop_instance_uid: one for one in rows}


def _findings(case: Case, uid: str, frame: int, number: int) -> list[Finding]:
    """Gather what was found in one image; a class stands with the detection that it is of."""
    classes = [one for one in case.classes if (one.image, one.frame) == (uid, frame)]
    found: list[tuple[Detection | None, Class | None]] = []
    for one in case.detections:
        if (one.image, one.frame) == (uid, frame):
            said = next((each for each in classes if _is_of(each, one)), None)
            if said is not None:
                classes.remove(said)
            found.append((one, said))
    found += [(None, one) for one in classes]
    return [
        _finding(f"finding-{place}", *pair) for place, pair in enumerate(found, start=number + 1)
    ]


def _is_of(said: Class, found: Detection) -> bool:
    return said.detection == found.id and said.region == found.label


def _finding(name: str, found: Detection | None, said: Class | None) -> Finding:
    # One of both is there; what was classified says more than where it was found.
    box = found.box if found else said.box if said else None
    colour = said.colour if said else found.colour if found else (0, 0, 0)
    region = found.label if found else said.region if said and said.detection else ""
    return Finding(
        id=name,
        region=region,
        label=said.label if said else "",
        value=said.probability if said else found.score if found else 0.0,
        score=found.score if found else None,
        bars=_bars(said) if said else (),
        colour="#{:02x}{:02x}{:02x}".format(*colour),
        box=(box[0], box[1], box[2] - box[0], box[3] - box[1]) if box else None,
    )


def _bars(said: Class) -> tuple[Bar, ...]:
    return tuple(Bar(name, value, name == said.label) for name, value in said.probabilities.items())
