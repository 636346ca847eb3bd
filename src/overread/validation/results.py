"""What a job found and measured, in words and numbers that last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from overread.dicom.codes import Code

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Measurement:
    """One number.

    Attributes
    ----------
    region : str
        What was measured: a segment's label.
    quantity : str
        What was measured of it, such as ``volume``.
    value : float
        The value, in ``unit``.
    unit : str
        UCUM unit.
    method : str
        How it was come by.
    segment : int
        Number of the segment that was measured; 0 where it is none.
    concept : Code, optional
        The quantity, coded, as a structured report names it.
    finding, site : Code, optional
        What was measured, coded: the segment's property type, and its anatomic region.
    points : tuple of Point
        Ends of the line that was measured, LPS mm; empty where it was none.
    derivation : Code, optional
        What of the quantity it is, such as its mean over the segment (CID 7464).
    frame_of_reference : str
        FrameOfReferenceUID that the points lie in; empty where the images had none.
    """

    region: str
    quantity: str
    value: float
    unit: str
    method: str
    segment: int = 0
    concept: Code | None = None
    finding: Code | None = None
    site: Code | None = None
    points: tuple[Point, ...] = ()
    derivation: Code | None = None
    frame_of_reference: str = ""


@dataclass(frozen=True)
class Measurements:
    """The measurements that one step made, in the order of the regions."""

    items: tuple[Measurement, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``{"measurements": [{"region": …, "value": …}, …]}``."""
        return {"measurements": [asdict(item) for item in self.items]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurements:
        """Read what `to_json` wrote."""
        return cls(_MEASUREMENTS.validate_python(data["measurements"]))


@dataclass(frozen=True)
class Detection:
    """One thing that was found in an image.

    Attributes
    ----------
    id : str
        Unique among the detections of a step: ``1``, ``2``, …
    label : str
        What was found.
    score : float
        0 to 1, as the model gives it.
    image : str
        SOPInstanceUID.
    frame : int
        Index of the frame, from 0.
    box : tuple of float
        ``x0, y0, x1, y1``: column and row in pixels of the source image, from the outer corner of
        its first pixel.
    code : Code, optional
        What was found, coded.
    site : Code, optional
        Anatomic region.
    colour : tuple of int
        RGB, 0 to 255.
    """

    id: str
    label: str
    score: float
    image: str
    frame: int
    box: tuple[float, float, float, float]
    code: Code | None = None
    site: Code | None = None
    colour: tuple[int, int, int] = (90, 205, 230)


@dataclass(frozen=True)
class Detections:
    """What a detector found.

    Attributes
    ----------
    items : tuple of Detection
        In the order of the images, then by score, the highest first.
    images : tuple of str
        SOPInstanceUID of every image that was looked at, those without a finding too.
    model : str
        ``name@version``.
    """

    items: tuple[Detection, ...]
    images: tuple[str, ...] = ()
    model: str = ""

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.items)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``{"detections": […], "images": […], "model": …}``."""
        return {
            "detections": [asdict(item) for item in self.items],
            "images": list(self.images),
            "model": self.model,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Detections:
        """Read what `to_json` wrote."""
        return cls(
            _DETECTIONS.validate_python(data["detections"]), tuple(data["images"]), data["model"]
        )


@dataclass(frozen=True)
class Class:
    """What one image, one region of it, or one exam was classified as.

    Attributes
    ----------
    region : str
        What was classified: a detection's label, or ``image``.
    label : str
        The most probable class.
    probability : float
        Its probability, 0 to 1, as the model gives it.
    probabilities : dict of str to float
        Of every class.
    image : str
        SOPInstanceUID.
    frame : int
        Index of the frame, from 0.
    box : tuple of float, optional
        The region in the image, as of a `Detection`; none for the whole image.
    detection : str
        Id of the detection that gave the region; empty for a whole image.
    code, site : Code, optional
        The class and the anatomic region, coded.
    colour : tuple of int
        RGB, 0 to 255.
    """

    region: str
    label: str
    probability: float
    probabilities: dict[str, float]
    image: str = ""
    frame: int = 0
    box: tuple[float, float, float, float] | None = None
    detection: str = ""
    code: Code | None = None
    site: Code | None = None
    colour: tuple[int, int, int] = (90, 205, 230)


@dataclass(frozen=True)
class Classification:
    """What a classifier said, of every image or region that it was given.

    Attributes
    ----------
    items : tuple of Class
        In the order of what was given.
    images : tuple of str
        SOPInstanceUID of every image that was looked at.
    model : str
        ``name@version``.
    """

    items: tuple[Class, ...]
    images: tuple[str, ...] = ()
    model: str = ""

    def __iter__(self) -> Iterator[Class]:
        return iter(self.items)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``{"classes": […], "images": […], "model": …}``."""
        return {
            "classes": [asdict(item) for item in self.items],
            "images": list(self.images),
            "model": self.model,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Classification:
        """Read what `to_json` wrote."""
        return cls(_CLASSES.validate_python(data["classes"]), tuple(data["images"]), data["model"])


@dataclass(frozen=True)
class ClinicalValue:
    """A value that is no image: an age, a weight, a laboratory value.

    Attributes
    ----------
    name : str
        As the pipeline names it.
    value : float or str
        In ``unit``.
    unit : str
        UCUM unit; empty for a text.
    source : str
        Where it stands, for a person: ``PatientWeight of series 3``, ``labs.csv``.
    """

    name: str
    value: float | str
    unit: str
    source: str


@dataclass(frozen=True)
class ClinicalValues:
    """Values that are no images."""

    items: tuple[ClinicalValue, ...]

    def get(self, name: str) -> ClinicalValue | None:
        """Return the value of a name; none where it is not known."""
        return next((item for item in self.items if item.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``{"values": […]}``."""
        return {"values": [asdict(item) for item in self.items]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClinicalValues:
        """Read what `to_json` wrote."""
        return cls(_VALUES.validate_python(data["values"]))


_MEASUREMENTS = TypeAdapter(tuple[Measurement, ...])
_DETECTIONS = TypeAdapter(tuple[Detection, ...])
_CLASSES = TypeAdapter(tuple[Class, ...])
_VALUES = TypeAdapter(tuple[ClinicalValue, ...])
