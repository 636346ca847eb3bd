"""Whether images are what a model was made for: its envelope against what is known of them.

Plain numbers and words only; who reads them off headers and voxels is
`overread.operators.check_input`. What is not known of the images is not held against them, unless
it is said so below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from overread.dicom.geometry import Affine, turn_to_axial
from overread.pipelines.model import Envelope, Range

TOLERANCE = 1e-3
"""Relative tolerance at both ends of a range, so that a rounded number lies in it."""

WITH_AGENT = (
    r"(?i)(?<![a-z])(post|postcontrast|gd|gad\w*|c\+|ce|contrast)(?![a-z])|\+\s*(c|gd|km)\b"
)
"""Words of a series' description or protocol that say that a contrast agent was given."""

WITHOUT_AGENT = r"(?i)\b(pre|precontrast|w/?o|without|native)\b|\bno[nt]?[- ]?contrast"
"""Words that say that none was; they count before the others."""

NO_AGENT = frozenset({"", "NO", "NONE", "N", "WITHOUT", "0"})
"""What scanners write into ContrastBolusAgent where none was given."""


@dataclass(frozen=True)
class Words:
    """What headers say of the images.

    Attributes
    ----------
    body_parts : tuple of str
        BodyPartExamined, and value and meaning of AnatomicRegionSequence's codes.
    descriptions : mapping of str to str
        StudyDescription, SeriesDescription and ProtocolName, those that are there.
    agent : str, optional
        ContrastBolusAgent; none where the attribute is absent.
    """

    body_parts: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    agent: str | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of the images that a model is to be given; none where it is not known.

    Attributes
    ----------
    modality : str, optional
        Modality.
    words : Words, optional
        What headers say.
    view : str, optional
        ViewPosition of a projection.
    toward : tuple of str, optional
        Towards which sides of the patient its columns and rows grow.
    spacing_mm : tuple of float, optional
        As acquired: between slices, rows and columns of the axial plane that is nearest; of a
        projection, between its rows and columns.
    plane : str, optional
        ``axial``, ``coronal``, ``sagittal`` or ``oblique``: the plane of acquisition.
    slices : int, optional
        How many, as acquired.
    field_of_view_mm : tuple of float, optional
        Extent along the patient's width (left to right), depth (front to back) and height.
    statistics : mapping of str to float, optional
        Of the voxels or pixels, by name.
    """

    modality: str | None = None
    words: Words | None = None
    view: str | None = None
    toward: tuple[str, str] | None = None
    spacing_mm: tuple[float | None, float, float] | None = None
    plane: str | None = None
    slices: int | None = None
    field_of_view_mm: tuple[float, float, float] | None = None
    statistics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Misfit:
    """One thing in which images lie outside an envelope.

    Attributes
    ----------
    found : str
        What the images are: ``the images are CT``.
    expected : str
        What the model was made for: ``MR``.
    """

    found: str
    expected: str


def refusal(model: str, outside: Sequence[Misfit]) -> str:
    """Say to a clinician why a model does not read these images: each reason with its numbers."""
    if len(outside) == 1:
        return f"{outside[0].found}; model {model} was made for {outside[0].expected}"
    listed = "; ".join(f"{one.found} (made for {one.expected})" for one in outside)
    return f"these images are not what model {model} was made for: {listed}"


def axial_spacing(affine: Affine) -> tuple[float, float, float]:
    """Distance in mm between slices, rows and columns of the axial plane nearest to a grid's."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    between, rows, columns = (float(steps[axis]) for axis in turn_to_axial(affine).order)
    return (between, rows, columns)


def outside(
    wanted: Envelope, facts: Facts, called: Mapping[str, str] = MappingProxyType({})
) -> list[Misfit]:
    """Find everything in which images lie outside an envelope.

    Parameters
    ----------
    wanted : Envelope
        What a model was made for.
    facts : Facts
        What is known of the images.
    called : mapping of str to str
        How a person calls a statistic.

    Returns
    -------
    list of Misfit
        In the order of the envelope; empty where they lie in it.
    """
    found: list[Misfit] = []
    if facts.modality is not None and facts.modality != wanted.modality:
        found.append(
            Misfit(f"the images are {facts.modality or 'of no modality'}", wanted.modality)
        )
    if facts.words is not None:
        found += _words(wanted, facts.words)
    if wanted.views and facts.view and facts.view.upper() not in map(str.upper, wanted.views):
        found.append(Misfit(f"the view is {facts.view}", " or ".join(wanted.views)))
    if wanted.toward and facts.toward and facts.toward != wanted.toward:
        seen = "\\".join(facts.toward)
        found.append(
            Misfit(
                f"the image is mirrored or turned (PatientOrientation {seen})",
                "\\".join(wanted.toward),
            )
        )
    found += _geometry(wanted, facts)
    if facts.statistics is not None:
        for name, limits in wanted.statistics.items():
            value = facts.statistics.get(name)
            what = f"{called[name]} ({name})" if name in called else name
            if value is None:
                found.append(Misfit(f"{what} cannot be measured", _from_to(limits)))
            elif not within(value, limits):
                found.append(Misfit(f"{what} is {value:.3g}", _from_to(limits)))
    return found


def within(value: float, limits: Range) -> bool:
    """Say whether a value lies in a range, both ends included; nan lies in none."""
    low, high = limits
    slack = TOLERANCE * max(abs(low), abs(high))
    return low - slack <= value <= high + slack


def _from_to(limits: Range) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


def _words(wanted: Envelope, words: Words) -> Iterator[Misfit]:
    said = {part.upper() for part in words.body_parts if part}
    if wanted.body_part and said and not said & {part.upper() for part in wanted.body_part}:
        shown = ", ".join(part for part in words.body_parts if part)
        yield Misfit(f"the body part is {shown}", " or ".join(wanted.body_part))
    shown = "; ".join(f"{name} “{text}”" for name, text in words.descriptions.items())
    texts = words.descriptions.values()
    if wanted.words and texts and not any(re.search(wanted.words, text) for text in texts):
        yield Misfit(f"the images are called {shown}", f"what matches /{wanted.words}/")
    if wanted.without_words:
        for name, text in words.descriptions.items():
            if re.search(wanted.without_words, text):
                expected = f"what does not match /{wanted.without_words}/"
                yield Misfit(f"{name} is “{text}”", expected)
    given = contrast(words)
    if wanted.contrast == "post" and not given:
        yield Misfit(
            f"nothing says that a contrast agent was given (ContrastBolusAgent "
            f"{words.agent or 'absent'}; {shown or 'no description'})",
            "images after contrast agent",
        )
    if wanted.contrast == "pre" and given:
        yield Misfit(
            f"a contrast agent was given (ContrastBolusAgent {words.agent or 'absent'}; {shown})",
            "images without contrast agent",
        )


def contrast(words: Words) -> bool:
    """Say whether headers tell that a contrast agent was given.

    ContrastBolusAgent decides where it is filled in; else the words of the series' description and
    of the protocol's name do. The study's description does not count: it names what the whole
    visit was for.
    """
    if words.agent is not None and words.agent.strip():
        return words.agent.strip().upper() not in NO_AGENT
    texts = [
        text.replace("_", " ")
        for name, text in words.descriptions.items()
        if name != "StudyDescription"
    ]
    return any(re.search(WITH_AGENT, text) and not re.search(WITHOUT_AGENT, text) for text in texts)


def learn(
    known: Sequence[Facts], margin: float, highest: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    """Learn an envelope from what is known of training images.

    A range is from the lowest to the highest value that was seen, each end moved outwards by
    ``margin`` times their distance, and at least by a tenth of the middle: so few volumes as models
    are trained on do not show all that will come. A range of values that were all positive stays
    so. Words are those that were seen; where some images say nothing of a thing, nothing is asked
    of it.

    Parameters
    ----------
    known : sequence of Facts
        At least one.
    margin : float
        How far ranges are widened.
    highest : mapping of str to float
        The most that a statistic can be, where it has a bound.

    Returns
    -------
    dict
        As ``input:`` of a model card has it.
    """
    envelope: dict[str, Any] = {"modality": _common([one.modality for one in known])}
    words = [one.words for one in known if one.words is not None]
    if words and all(one.body_parts for one in words):
        envelope["body_part"] = _seen(part for one in words for part in one.body_parts)
    if words and all(contrast(one) for one in words):
        envelope["contrast"] = "post"  # that headers say nothing of an agent is no sign of none
    for name, values in (
        ("views", [one.view for one in known]),
        ("planes", [one.plane for one in known]),
    ):
        if all(values):
            envelope[name] = _seen(value for value in values if value)
    ways = {one.toward for one in known}
    if len(ways) == 1 and (way := ways.pop()):
        envelope["toward"] = list(way)
    if all(one.spacing_mm for one in known):
        steps = np.array([one.spacing_mm for one in known], dtype=np.float64)
        plane = {"in_plane": _widened(steps[:, 1:], margin)}
        if not np.isnan(steps[:, 0]).any():
            plane["between_slices"] = _widened(steps[:, 0], margin)
        envelope["spacing_mm"] = plane
    if all(one.slices for one in known):
        low, high = _widened([one.slices or 0 for one in known], margin)
        envelope["slices"] = [int(np.floor(low)), int(np.ceil(high))]
    if all(one.field_of_view_mm for one in known):
        sides = np.array([one.field_of_view_mm for one in known], dtype=np.float64)
        envelope["field_of_view_mm"] = {
            name: _widened(sides[:, axis], margin)
            for axis, name in enumerate(("width", "depth", "height"))
        }
    measured = [one.statistics or {} for one in known]
    common = [name for name in measured[0] if all(name in one for one in measured)]
    envelope["statistics"] = {
        name: _widened([one[name] for one in measured], margin, highest.get(name, math.inf))
        for name in common
    }
    return envelope


LEAST_MARGIN = 0.1
"""Part of the middle of a range by which each end is moved outwards at least."""


def _widened(values: ArrayLike, margin: float, highest: float = math.inf) -> list[float]:
    seen = np.asarray(values, dtype=np.float64)
    low, high = float(seen.min()), float(seen.max())
    by = max(margin * (high - low), LEAST_MARGIN * abs(low + high) / 2)
    ends = [max(low - by, 0.0) if low >= 0 else low - by, min(high + by, highest)]
    return [float(f"{end:.3g}") for end in ends]


def _common(values: Iterable[str | None]) -> str:
    seen = _seen(value for value in values if value)
    return seen[0] if len(seen) == 1 else ""


def _seen(values: Iterable[str]) -> list[str]:
    return sorted(set(values))


def _geometry(wanted: Envelope, facts: Facts) -> Iterator[Misfit]:
    if wanted.spacing_mm is not None and facts.spacing_mm is not None:
        plane = wanted.spacing_mm.in_plane
        ranges = (wanted.spacing_mm.between_slices, plane, plane)
        names = ("between slices", "between rows", "between columns")
        for value, limits, name in zip(facts.spacing_mm, ranges, names, strict=True):
            if value is not None and not within(value, limits):
                of_the = "" if facts.spacing_mm[0] is None else " (of the axial plane)"
                found = f"the images have {value:.2f} mm {name}{of_the}"
                yield Misfit(found, f"{_from_to(limits)} mm")
    if wanted.planes and facts.plane is not None and facts.plane not in wanted.planes:
        yield Misfit(f"the images are {facts.plane}", " or ".join(wanted.planes))
    if wanted.slices is not None and facts.slices is not None:
        low, high = wanted.slices
        if not low <= facts.slices <= high:
            yield Misfit(f"there are {facts.slices} slices", f"{low} to {high}")
    if wanted.field_of_view_mm is not None and facts.field_of_view_mm is not None:
        view = wanted.field_of_view_mm
        ranges = (view.width, view.depth, view.height)
        names = ("wide (left to right)", "deep (front to back)", "high (feet to head)")
        for value, limits, name in zip(facts.field_of_view_mm, ranges, names, strict=True):
            if not within(value, limits):
                yield Misfit(
                    f"the field of view is {value:.0f} mm {name}", f"{_from_to(limits)} mm"
                )
