"""Refuse images that a model was not made for, before it gives a confident number for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from overread.dicom.geometry import turn_to_axial
from overread.dicom.image import Image, Images
from overread.dicom.match import text
from overread.dicom.orientation import plane_of
from overread.dicom.study import Exam, Instance, Series, group_series
from overread.dicom.volume import HOUNSFIELD, Volume
from overread.errors import Refused
from overread.measures.appearance import (
    PLANE,
    VOLUME,
    plane_appearance,
    volume_appearance,
)
from overread.operators.intensity import otsu
from overread.pipelines.envelope import Facts, Words, axial_spacing, outside, refusal
from overread.pipelines.model import Envelope
from overread.pipelines.ports import Account, Model

AIR = -1000.0
"""Hounsfield units below which nothing is."""

DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName")
_ANATOMY = (
    "AnatomicRegionSequence",
    "SharedFunctionalGroupsSequence.FrameAnatomySequence.AnatomicRegionSequence",
)


def check_input(volume: Volume, source: Series | Exam, account: Account, *, model: Model) -> Volume:
    """Refuse a volume that the model was not made for; pass on, unchanged, one that it was.

    The volume and the headers of its images are held against the envelope that the model's card
    declares under ``input``: modality, body part, words of the descriptions, contrast agent, plane
    of acquisition, spacing, number of slices, field of view, and ``statistics`` of the voxels (the
    size of the body, how bright what lies below its surface is, how smooth it is, …). What the
    card leaves out is not looked at; ``overread model profile`` learns an envelope from a folder
    of training volumes.

    Put it right after ``read_volume``: spacing, slices and field of view are those of the images
    as they were acquired, whatever was done to the volume since; statistics are those of the
    volume that it is given. It does not look for the organ: what resembles the training volumes in
    all that is declared, passes.

    Parameters
    ----------
    volume : Volume
        As it was read.
    source : Series or Exam
        The images that the volume was read from.
    model : Model
        ``name@version``.

    Returns
    -------
    Volume
        The one that was given.

    Raises
    ------
    Refused
        The images lie outside the envelope: each thing in which they do, with what was found and
        what the model was made for.
    """
    envelope = model.card.input
    facts = facts_of_volume(volume, source, with_statistics=bool(envelope.statistics))
    if found := outside(envelope, facts, VOLUME):
        raise Refused(refusal(model.card.reference, found))
    why = f"lies within the envelope of model {model.card.reference}"
    account.used.extend((series.uid, why) for series in group_series(tuple(source)))
    account.notes.extend(_told(envelope, facts.statistics or {}))
    return volume


def check_images(
    images: Images, source: Series | Exam, account: Account, *, model: Model
) -> Images:
    """Refuse images that the model was not made for; pass on, unchanged, those that it was.

    For projections and ultrasound, as `check_input` is for volumes: every image must lie within the
    envelope of the model's card. Of ``spacing_mm`` only ``in_plane`` is looked at, where the image
    has a spacing; ``views`` is held against ViewPosition and ``toward`` against
    PatientOrientation, where the image has them; ``statistics``
    are those of projections (shape, middle, spread, symmetry, …), see `measures.appearance`.

    Parameters
    ----------
    images : Images
        As they were read.
    source : Series or Exam
        What they were read from.
    model : Model
        ``name@version``.

    Returns
    -------
    Images
        Those that were given.

    Raises
    ------
    Refused
        An image lies outside the envelope: which, and each thing in which it does.
    """
    envelope = model.card.input
    headers = {one.uid: one for one in source}
    faults: list[str] = []
    for image in images:
        facts = facts_of_image(image, headers.get(image.uid))
        if found := outside(envelope, facts, PLANE):
            faults.append(f"{_name(image)}: {refusal(model.card.reference, found)}")
            continue
        account.used.append((image.uid, f"lies within the envelope of {model.card.reference}"))
        account.notes.extend(
            f"{_name(image)}: {line}" for line in _told(envelope, facts.statistics or {})
        )
    if faults:
        raise Refused("; ".join(faults))
    return images


def facts_of_volume(
    volume: Volume, source: Iterable[Instance] = (), *, with_statistics: bool = True
) -> Facts:
    """Gather what is known of a volume.

    Parameters
    ----------
    volume : Volume
        As it was read.
    source : iterable of Instance
        The images it was read from; without any, nothing is known of what headers say.
    with_statistics : bool
        Whether to measure the voxels, which takes a second or two.
    """
    origin = volume.origin
    turn = turn_to_axial(origin.affine)
    sides = [origin.shape[axis] * origin.spacing[axis] for axis in turn.order]
    normal = np.cross(origin.affine[:3, 2], origin.affine[:3, 1])
    instances = list(source)
    return Facts(
        modality=volume.modality,
        words=words_of(instances) if instances else None,
        spacing_mm=axial_spacing(origin.affine),
        plane=plane_of(normal),
        slices=origin.shape[0],
        field_of_view_mm=(sides[2], sides[1], sides[0]),
        statistics=(
            volume_appearance(
                volume.array,
                volume.affine,
                otsu,
                has_unit=volume.unit != "1",
                lowest=AIR if volume.unit == HOUNSFIELD else None,
            )
            if with_statistics
            else None
        ),
    )


def facts_of_image(image: Image, instance: Instance | None = None) -> Facts:
    """Gather what is known of one image."""
    return Facts(
        modality=image.modality,
        words=words_of([instance]) if instance is not None else None,
        view=image.view or None,
        toward=image.toward,
        spacing_mm=(None, *image.spacing) if image.spacing else None,
        statistics=plane_appearance(image.array, image.spacing),
    )


def words_of(instances: Iterable[Instance]) -> Words:
    """Gather what the headers of images say of them; each different text once."""
    parts: dict[str, None] = {}
    descriptions: dict[str, list[str]] = {}
    agents: list[str] = []
    for series in group_series(tuple(instances)):
        header = series.header
        for address in ("BodyPartExamined", *_ANATOMY):
            ends = ("",) if address == "BodyPartExamined" else (".CodeValue", ".CodeMeaning")
            for end in ends:
                parts.update(dict.fromkeys(text(header, address + end)))
        for name in DESCRIPTIONS:
            for value in text(header, name):
                if value not in descriptions.setdefault(name, []):
                    descriptions[name].append(value)
        for address in ("ContrastBolusAgent", "ContrastBolusAgentSequence.CodeMeaning"):
            agents += text(header, address)
    return Words(
        tuple(parts),
        {name: ", ".join(values) for name, values in descriptions.items()},
        agents[0] if agents else None,
    )


def _told(envelope: Envelope, statistics: Mapping[str, float]) -> list[str]:
    if not envelope.statistics:
        return ["the model's card declares no statistics: values of voxels were not looked at"]
    return [
        f"{name} {statistics[name]:.3g} (made for {low:g} to {high:g})"
        for name, (low, high) in envelope.statistics.items()
        if name in statistics
    ]


def _name(image: Image) -> str:
    return f"image {image.uid}" + (f" frame {image.frame + 1}" if image.frame else "")
