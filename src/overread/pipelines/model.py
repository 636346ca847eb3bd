"""What ``model.yaml`` says of a model: its weights by digest, what goes in, what comes out."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from overread.dicom.codes import Code, Segment
from overread.dicom.orientation import Plane
from overread.settings import Frozen

SHA256 = r"^[0-9a-f]{64}$"


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] <= limits[1]:
        raise ValueError(f"{limits[0]:g} to {limits[1]:g} is no range; write the lower end first")
    return limits


def _pattern(written: str) -> str:
    try:
        re.compile(written)
    except re.error as error:
        raise ValueError(f"{written!r} is no regular expression: {error}") from error
    return written


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str) and given else given or ()


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Lowest and highest value, both included."""

Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression, looked for anywhere in a text; empty asks for nothing."""

Several = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""One text or a list of them."""


Side = Literal["L", "R", "A", "P", "H", "F"]
"""Sides of the patient, as PatientOrientation names them (PS3.3 C.7.6.1.1.1)."""


Shade = Annotated[int, Field(ge=0, le=255)]


class Label(Frozen):
    """One value of a model's mask, and what it stands for.

    Attributes
    ----------
    category, type : Code
        SegmentedPropertyCategory and SegmentedPropertyType (PS3.3 table C.8.20-2).
    anatomy : Code, optional
        Anatomic region.
    colour : tuple of int
        RGB, 0 to 255, in which viewers and pages draw it.
    """

    value: int = Field(ge=1, le=65535)
    name: str = Field(min_length=1, max_length=64)
    category: Code
    type: Code
    anatomy: Code | None = None
    colour: tuple[Shade, Shade, Shade] = (90, 205, 230)

    def segment(self) -> Segment:
        """Return the segment that this label stands for."""
        return Segment(self.value, self.name, self.category, self.type, self.anatomy, self.colour)


class Spacing(Frozen):
    """Ranges of voxel spacing in mm, low and high; of projections, ``in_plane`` alone."""

    in_plane: Range
    between_slices: Range = (0.0, math.inf)


class FieldOfView(Frozen):
    """Ranges of what the images cover, in mm along the patient's axes.

    Attributes
    ----------
    width, depth, height : tuple of float
        Left to right, front to back, feet to head.
    """

    width: Range
    depth: Range
    height: Range


class Envelope(Frozen):
    """What the model was made for. A volume outside it is not the model's business.

    What the first group says is what `check_input` holds images against (`pipelines.envelope`);
    what is left out is not looked at. The second says how they get to the model.

    Attributes
    ----------
    modality : str
        Modality.
    body_part : tuple of str
        BodyPartExamined, or value or meaning of a code of AnatomicRegionSequence: one of these,
        where the images say it at all.
    words : str
        Regular expression of which StudyDescription, SeriesDescription or ProtocolName must hold
        a match, where there is one of them.
    without_words : str
        Regular expression that none of them may match.
    contrast : str
        ``post``: headers say that a contrast agent was given; ``pre``: they do not.
    views : tuple of str
        ViewPosition of projections: one of these, where the image has one.
    toward : tuple of str, optional
        Of projections: towards which sides of the patient columns and rows grow, as
        PatientOrientation says it (its first letters), where the image does: ``[L, F]``. A model
        that tells right from left by where things lie must say it: in an image that is mirrored
        it would name the wrong side.
    planes : tuple of str
        Planes of acquisition: ``axial``, ``coronal``, ``sagittal``, ``oblique``.
    spacing_mm : Spacing, optional
        As acquired, before any resampling.
    slices : tuple of int, optional
        Fewest and most slices, as acquired.
    field_of_view_mm : FieldOfView, optional
        What the images cover.
    statistics : dict
        Ranges of what is measured of the voxels or pixels, by the names of
        `measures.appearance`; ``overread model profile`` learns them.
    orientation : str
        Orientation of the array that the model sees; ``LPS-axial`` means slices from feet to head,
        rows from anterior to posterior, columns from right to left.
    resample_in_plane_mm : float, optional
        The spacing that the pipeline brings images to before the model sees them.
    normalise : str
        Name of the intensity normalisation that the pipeline applies.
    window : tuple of int
        Size (slices, rows, columns) of the sliding window; 0 takes the whole axis.
    multiple : int
        Rows and columns are padded to a multiple of this.
    size : tuple of int, optional
        Rows and columns of the image that a detector or classifier sees: images are scaled to fit,
        keep their aspect, and are padded with 0 around.
    intensity : dict
        What people should know of the values that the model saw, by name; nothing is checked.
    """

    name: str = "image"
    modality: str
    body_part: Several = ()
    words: Pattern = ""
    without_words: Pattern = ""
    contrast: Literal["", "pre", "post"] = ""
    views: Several = ()
    toward: tuple[Side, Side] | None = None
    planes: tuple[Plane, ...] = ()
    spacing_mm: Spacing | None = None
    slices: tuple[int, int] | None = None
    field_of_view_mm: FieldOfView | None = None
    statistics: dict[str, Range] = Field(default_factory=dict)
    orientation: Literal["LPS-axial"] = "LPS-axial"
    resample_in_plane_mm: float | None = None
    normalise: str = ""
    window: tuple[int, int, int] = (0, 256, 256)
    multiple: int = 32
    size: tuple[int, int] | None = None
    intensity: dict[str, float] = Field(default_factory=dict)


class Output(Frozen):
    """What comes out.

    Attributes
    ----------
    name : str
        Of a segmentation: the tensor of probabilities, one channel per label. Of a classification:
        the tensor (batch, labels) of probabilities.
    boxes, scores : str
        Of a detection: the tensor (batch, boxes, 4) of ``x0, y0, x1, y1`` in pixels of the model's
        image, from the outer corner of its first pixel; and the tensor (batch, boxes, labels) of
        scores, 0 to 1.
    threshold : float
        From which a voxel counts as a label, a box as found, a class as present.
    nms_iou : float, optional
        Of a detection whose model keeps boxes that lie on each other: of two of one label that
        overlap more than this (intersection over union) the better is kept.
    margin : float
        Of a classification of regions: a region is enlarged on each side by this part of it.
    labels : tuple of Label
        In the order of the channels.
    """

    name: str = "probability"
    boxes: str = ""
    scores: str = ""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    nms_iou: float | None = Field(default=None, gt=0, le=1)
    margin: float = Field(default=0.0, ge=0, le=2)
    labels: tuple[Label, ...] = Field(min_length=1)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that the model gives."""
        return (self.boxes, self.scores) if self.boxes else (self.name,)


class Fold(Frozen):
    """A further member of an ensemble.

    Attributes
    ----------
    file, sha256 : str
        As in `ModelCard`.
    """

    file: str
    sha256: str = Field(pattern=SHA256)


class Server(Frozen):
    """Where a model runs that is not run here.

    Attributes
    ----------
    name : str
        One of ``model_servers`` in ``overread.yaml``.
    model : str
        What the server calls the model.
    version : str
        The server's version of it. It must be named: a server that may choose one would change the
        model under the site.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    model: str = Field(min_length=1)
    version: str = Field(min_length=1)


class ModelCard(Frozen):
    """A model: weights with a version and a SHA-256 digest.

    Attributes
    ----------
    file : str
        The weights, relative to the card's folder. Of a model that a server runs: the file that
        was given to it, kept here so that a person can compare.
    sha256 : str
        Digest of that file. A job whose model file does not match does not run.
    runtime : str
        Name of the runtime plugin that executes it.
    folds : tuple of Fold
        Further weights of the same network: each is run, and what they give is averaged. Not of a
        detection, whose boxes have no mean.
    server : Server, optional
        Where it runs, for ``runtime: kserve``.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    title: str = ""
    task: Literal["segmentation", "detection", "classification"] = "segmentation"
    runtime: str = "onnx"
    file: str
    sha256: str = Field(pattern=SHA256)
    folds: tuple[Fold, ...] = ()
    server: Server | None = None
    input: Envelope
    output: Output
    intended_use: str = ""
    investigational: bool = True
    manufacturer: str = "Overread"
    licence: str = ""

    @model_validator(mode="after")
    def _fits_its_task(self) -> ModelCard:
        if (self.task == "detection") != bool(self.output.boxes and self.output.scores):
            raise ValueError("output names boxes and scores for a detection, and only then")
        if (self.task != "segmentation") != (self.input.size is not None):
            raise ValueError("input has a size for a detection or classification, and only then")
        if (self.runtime == "kserve") != (self.server is not None):
            raise ValueError(
                "runtime kserve finds its model on a server; write server with it, and only then"
            )
        if self.folds and self.task == "detection":
            raise ValueError(
                "folds of a detection: boxes of several networks cannot be averaged; write none"
            )
        if self.server and self.folds:
            raise ValueError(
                "folds of a model that a server runs; write none: there an ensemble is one model"
            )
        return self

    @property
    def reference(self) -> str:
        """``name@version``, as pipelines name it."""
        return f"{self.name}@{self.version}"
