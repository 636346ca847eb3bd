"""Write a segment's surface for surgical planning and printing: an encapsulated STL."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydicom import Dataset
from pydicom.uid import EncapsulatedSTLStorage
from pydicom.valuerep import DA, TM

from overread.dicom import derived
from overread.dicom.codes import (
    CT_MODEL,
    MILLIMETRE,
    MIXED_MODEL,
    MR_MODEL,
    PLANNING,
    SOURCE_IMAGE,
    Code,
    Segment,
)
from overread.dicom.derived import Making
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Series
from overread.dicom.volume import Mask
from overread.errors import Refused
from overread.measures.mesh import stl, surface_mesh
from overread.measures.volumetry import MM3_PER_ML
from overread.operators.making import Tags, making
from overread.operators.postprocess import Label, chosen
from overread.pipelines.ports import Account, Context

TITLES: dict[str, Code] = {"CT": CT_MODEL, "MR": MR_MODEL}
"""What a model is called, by the modality of the images."""


def write_mesh(
    mask: Mask,
    source: Series,
    context: Context,
    account: Account,
    *,
    segment: Label | None = None,
    smoothing: Annotated[int, Field(ge=0, le=200)] = 10,
    tags: Tags | None = None,
) -> DerivedObject:
    """Write the surface of one segment as a DICOM Encapsulated STL (PS3.3 A.85.1).

    The surface is drawn by marching cubes halfway between the voxels inside and outside, in the
    millimetres of the images' own space (LPS), so that models of several segments fit together, and
    closed at the edge of the images too. STL knows one surface and no names: each segment is a step
    and an object of its own. EncapsulatedDocument is the binary STL file.

    Parameters
    ----------
    mask : Mask
        What was segmented, on any grid of the source's space.
    source : Series
        The images that the mask belongs to; the object is put into their Study.
    segment : int or str, optional
        The segment, by number or label; not needed where the mask has one only.
    smoothing : int
        Passes of Taubin's smoothing, which takes the steps between voxels off and keeps the volume;
        0 leaves the surface as it is. Fine vessels want few.
    tags : dict, optional
        Attributes to set, by keyword: ``{SeriesDescription: "AI left lobe"}``.

    Returns
    -------
    DerivedObject
        An Encapsulated STL object, Modality M3D. How far the volume that it encloses is from that
        of the voxels is in the step's notes.

    Raises
    ------
    Refused
        Nothing of the segment was found: there is no surface.
    ValueError
        The mask has several segments and none is named, or it has no such segment.
    """
    drawn = _one(mask, segment)
    inside = mask.array == drawn.number
    if not inside.any():
        raise Refused(f"nothing of {drawn.label} was found, so there is no surface of it to write")
    affine = mask.affine if mask.source is None else mask.source.back @ mask.affine
    mesh = surface_mesh(inside, affine, smoothing)
    voxels = float(inside.sum()) * mask.voxel_volume
    account.notes.append(
        f"{drawn.label}: {len(mesh.triangles)} triangles around {mesh.volume / MM3_PER_ML:.2f} mL, "
        f"{100 * (mesh.volume / voxels - 1):+.2f} % of its voxels' volume; {smoothing} passes of "
        "smoothing"
    )
    account.used.extend((one.uid, "source image") for one in source)
    facts = making(context, mask.model, tags)
    header = source.header
    made = _encapsulate(stl(mesh, drawn.label), header, facts, drawn)
    made.SourceInstanceSequence = [_sourced(derived.reference(one)) for one in source]
    derived.refer_to(made, source)
    return derived.finish(
        made, header, facts, kind="mesh", sources=(one.uid for one in source), segments=(drawn,)
    )


def _one(mask: Mask, label: Label | None) -> Segment:
    if label is None and len(mask.segments) != 1:
        known = ", ".join(f"{one.number} ({one.label})" for one in mask.segments)
        raise ValueError(f"write_mesh takes one segment; the mask has {known}: name one")
    return chosen(mask, None if label is None else [label])[0]


def _sourced(item: Dataset) -> Dataset:
    item.PurposeOfReferenceCodeSequence = [derived.coded(SOURCE_IMAGE)]
    return item


def _encapsulate(document: bytes, header: Dataset, facts: Making, drawn: Segment) -> Dataset:
    """Put an STL into an object.

    The Encapsulated Document module (PS3.3 C.24.2), the Frame of Reference module (C.7.4.1) and the
    Manufacturing 3D Model module (C.35.1).
    """
    made = derived.start(
        header,
        facts,
        sop_class=EncapsulatedSTLStorage,
        modality="M3D",
        description=f"{drawn.label} surface",
    )
    local = facts.local(header)
    made.ContentDate, made.ContentTime = DA(local.date()), TM(local.time())
    made.AcquisitionDateTime = None
    made.BurnedInAnnotation = "NO"
    made.DocumentTitle = facts.describe(f"{drawn.label} surface")
    title = TITLES.get(str(header.get("Modality", "")), MIXED_MODEL)
    made.ConceptNameCodeSequence = [derived.coded(title)]
    made.MIMETypeOfEncapsulatedDocument = "model/stl"
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    made.FrameOfReferenceUID = header.get("FrameOfReferenceUID") or facts.uid("frame of reference")
    made.PositionReferenceIndicator = header.get("PositionReferenceIndicator")
    made.MeasurementUnitsCodeSequence = [derived.coded(MILLIMETRE)]
    made.ModelModification = "NO"
    made.ModelMirroring = "NO"
    made.ModelUsageCodeSequence = [derived.coded(PLANNING)]
    return made
