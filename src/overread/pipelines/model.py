"""What ``model.yaml`` says of a model: its weights by digest, what goes in, what comes out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from overread.dicom.codes import Code, Segment
from overread.settings import Frozen


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
    colour: tuple[int, int, int] = (90, 205, 230)

    def segment(self) -> Segment:
        """Return the segment that this label stands for."""
        return Segment(self.value, self.name, self.category, self.type, self.anatomy, self.colour)


class Spacing(Frozen):
    """Ranges of voxel spacing in mm, low and high."""

    in_plane: tuple[float, float]
    between_slices: tuple[float, float]


class Envelope(Frozen):
    """What the model was made for. A volume outside it is not the model's business.

    Attributes
    ----------
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
        Statistics of the training volumes, by name.
    """

    name: str = "image"
    modality: str
    body_part: str = ""
    contrast: str = ""
    orientation: Literal["LPS-axial"] = "LPS-axial"
    spacing_mm: Spacing | None = None
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


class ModelCard(Frozen):
    """A model: weights with a version and a SHA-256 digest.

    Attributes
    ----------
    file : str
        The weights, relative to the card's folder.
    sha256 : str
        Digest of that file. A job whose model file does not match does not run.
    runtime : str
        Name of the runtime plugin that executes it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    title: str = ""
    task: Literal["segmentation", "detection", "classification"] = "segmentation"
    runtime: str = "onnx"
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
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
        return self

    @property
    def reference(self) -> str:
        """``name@version``, as pipelines name it."""
        return f"{self.name}@{self.version}"
