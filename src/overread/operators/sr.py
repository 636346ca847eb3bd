"""Write what was measured and found as a structured report (PS3.16 TID 1500)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.sr.coding import Code as SrCode
from pydicom.valuerep import DA, TM

from overread.dicom import derived
from overread.dicom.codes import Code
from overread.dicom.derived import Making
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Exam, Instance, Series
from overread.operators.making import Tags, making
from overread.pipelines.ports import Account, Context
from overread.validation.results import (
    Class,
    Classification,
    Detection,
    Detections,
    Measurement,
    Measurements,
    Point,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OWN_SCHEME = "99OVERREAD"
"""Coding scheme of what no public one has a code for; 99 marks a private one (PS3.16 8.2)."""

CERTAINTY = SrCode("111012", "DCM", "Certainty of Finding")
FINDING = SrCode("404684003", "SCT", "Clinical finding")
NEGATIVE = SrCode("260385009", "SCT", "Negative")
ENGLISH = SrCode("en", "RFC5646", "English")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
PERCENT = SrCode("%", "UCUM", "percent")

PROJECTIONS = frozenset({"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"})
"""Modalities of projection radiography, of which highdicom's image library asks PatientOrientation
and ImagerPixelSpacing; many such images do not say them, and stand in the evidence only."""

ENTRY = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "PixelSpacing", "SliceThickness",
    "ImagePositionPatient", "ImageOrientationPatient", "PatientOrientation", "ImagerPixelSpacing",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
"""Attributes of an image that its entry in the image library is made of (PS3.16 TID 1602)."""

UNITS = {
    "mL": "milliliter",
    "mm": "millimeter",
    "mm2": "square millimeter",
    "cm2": "square centimeter",
    "%": "percent",
    "1": "no units",
    "[hnsf'U]": "Hounsfield unit",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "{ratio}": "ratio",
}
"""Meanings of UCUM units (CID 7181 to 7186); of another, the unit itself is its meaning."""


def write_sr(  # noqa: PLR0917 - ports are positional
    source: Series | Exam,
    context: Context,
    account: Account,
    measurements: Measurements | None = None,
    detections: Detections | None = None,
    classification: Classification | None = None,
    seg: DerivedObject | None = None,
    *,
    procedure: Code = PROCEDURE,
    tags: Tags | None = None,
) -> DerivedObject:
    """Write a structured report of what was measured and found, which any system can read.

    A Comprehensive 3D SR after TID 1500 *Measurement Report*, in the shape of the IHE profile *AI
    Results*: the device that observed, an image library, and a group for each region, detection or
    class, each with a tracking identifier, its algorithm, and codes. A region that a segmentation
    holds refers to its segment; a line refers to its ends in the patient (SCOORD3D); a detection
    refers to its rectangle in its image (SCOORD). Scores and probabilities are *Certainty of
    Finding* in percent. The report is marked preliminary unless the stage is *clinical*, and
    unverified always. What no public scheme has a code for is coded in the scheme 99OVERREAD.

    Parameters
    ----------
    source : Series or Exam
        The images that were looked at; the report is put into their Study.
    measurements : Measurements, optional
        Numbers; those of one region make one group. Join several steps with `join_measurements`.
    detections : Detections, optional
        Boxes.
    classification : Classification, optional
        Classes of images or regions.
    seg : DerivedObject, optional
        The segmentation whose segments were measured, as `write_seg` wrote it.
    procedure : Code
        Procedure Reported: the code of what was done to the patient.
    tags : dict, optional
        Attributes to set, by keyword: ``{SeriesDescription: "AI measurements"}``.

    Returns
    -------
    DerivedObject
        The report.

    Raises
    ------
    ValueError
        There is nothing to report, a detection or class is of an image that is not in ``source``,
        or ``seg`` is no segmentation.
    """
    import highdicom as hd

    if measurements is None and detections is None and classification is None:
        raise ValueError("write_sr was given nothing to report: bind measurements, detections or …")
    if seg is not None and not seg.segments:
        raise ValueError(f"write_sr takes a segmentation as seg; it was given a {seg.kind}")
    model = (detections or classification or Detections(())).model
    facts = making(context, model, tags)
    images = list(source)
    groups = _Groups(facts, images, seg)
    found: list[Any] = []
    if measurements is not None:
        found += groups.regions(measurements.items)
    if detections is not None:
        found += [groups.detection(item) for item in detections]
    if classification is not None:
        found += [groups.classified(item) for item in classification]
    entries = [_entry(one) for one in images]
    shown = {item.image for item in (*(detections or ()), *(classification or ()))}
    report = hd.sr.MeasurementReport(
        observation_context=_observer(facts),
        procedure_reported=_code(procedure),
        imaging_measurements=found or [groups.nothing()],
        title=SrCode("126000", "DCM", "Imaging Measurement Report"),
        referenced_images=_library(entries, shown) or None,
    )
    first = derived.clean(images[0].header)
    evidence = [first, *entries[1:], *([seg.dataset] if seg is not None else [])]
    local = facts.local(first)
    made = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        series_instance_uid=facts.uid("series"),
        series_number=facts.series_number(first, "SR"),
        sop_instance_uid=facts.uid("instance"),
        instance_number=1,
        manufacturer=derived.MANUFACTURER,
        is_complete=True,
        is_final=not facts.investigational,
        specific_character_set="ISO_IR 192",
    )
    made.SeriesDescription = facts.describe("Measurements and findings")
    made.SeriesDate = made.ContentDate = DA(local.date())
    made.SeriesTime = made.ContentTime = TM(local.time())
    made.ManufacturerModelName = f"{facts.algorithm.name} {facts.algorithm.version}"[:64]
    made.DeviceSerialNumber = facts.device[:64]
    account.notes.append(f"{len(found)} groups of measurements and findings")
    if not found:
        account.notes.append("nothing was found: the report says so")
    account.used.extend((one.uid, "source image") for one in images)
    return derived.finish(made, first, facts, kind="report", sources=(one.uid for one in images))


class _Groups:
    """Makes the groups of a report."""

    def __init__(
        self, facts: Making, images: Sequence[Instance], seg: DerivedObject | None
    ) -> None:
        self._facts = facts
        self._images = {one.uid: one for one in images}
        self._seg = seg
        sources = (self._images[uid] for uid in seg.sources if uid in self._images) if seg else ()
        self._series = str(next(iter(sources), images[0]).header.SeriesInstanceUID)
        frames = {str(one.header.get("FrameOfReferenceUID") or "") for one in images}
        self._frame = frames.pop() if len(frames) == 1 else ""

    def regions(self, items: Sequence[Measurement]) -> Iterator[Any]:
        """Yield a group for each region, in the order of the measurements, and one for each line.

        Lines stand apart: a group that refers to a segment may hold no coordinates (TID 1411).
        """
        import highdicom as hd

        grouped: dict[tuple[int, str, tuple[Point, ...]], list[Measurement]] = {}
        for item in items:
            grouped.setdefault((item.segment, item.region, item.points), []).append(item)
        for (segment, region, points), members in grouped.items():
            first = members[0]
            shared: dict[str, Any] = {
                "tracking_identifier": self._tracking(f"{segment} {region} {points}", region),
                "finding_type": _code(first.finding) if first.finding else _own(region),
                "finding_sites": _sites(first.site),
                "algorithm_id": self._algorithm(),
                "measurements": [self._measurement(item) for item in members],
            }
            if self._seg is not None and segment and not points:
                yield hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    referenced_segment=self._segment(region), **shared
                )
            else:
                yield hd.sr.MeasurementsAndQualitativeEvaluations(**shared)

    def nothing(self) -> Any:
        """Return the group that says that nothing was found in the images."""
        import highdicom as hd

        return hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking("nothing", "nothing found"),
            algorithm_id=self._algorithm(),
            qualitative_evaluations=[hd.sr.QualitativeEvaluation(FINDING, NEGATIVE)],
            source_images=[
                hd.sr.SourceImageForMeasurementGroup(one.header.SOPClassUID, one.uid)
                for one in self._images.values()
            ],
        )

    def detection(self, item: Detection) -> Any:
        """Return the group of a detection."""
        import highdicom as hd

        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(f"detection {item.id}", f"{item.label} {item.id}"),
            referenced_region=self._rectangle(item.image, item.frame, item.box),
            finding_type=_code(item.code) if item.code else _own(item.label),
            finding_sites=_sites(item.site),
            algorithm_id=self._algorithm(),
            measurements=[_certainty(item.score)],
        )

    def classified(self, item: Class) -> Any:
        """Return the group of a class: of a region of an image, of an image, or of the exam."""
        import highdicom as hd

        name = f"class {item.region} {item.image} {item.frame} {item.detection}"
        shared: dict[str, Any] = {
            "tracking_identifier": self._tracking(name, f"{item.region}: {item.label}"),
            "finding_type": _own(item.region),
            "finding_sites": _sites(item.site),
            "algorithm_id": self._algorithm(),
            "measurements": [_certainty(item.probability)],
            "qualitative_evaluations": [
                hd.sr.QualitativeEvaluation(
                    FINDING, _code(item.code) if item.code else _own(item.label)
                )
            ],
        }
        if item.box is not None:
            region = self._rectangle(item.image, item.frame, item.box)
            return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                referenced_region=region, **shared
            )
        if item.image:
            image = self._image(item.image)
            shared["source_images"] = [
                hd.sr.SourceImageForMeasurementGroup(image.header.SOPClassUID, image.uid)
            ]
        return hd.sr.MeasurementsAndQualitativeEvaluations(**shared)

    def _tracking(self, name: str, label: str) -> Any:
        import highdicom as hd

        return hd.sr.TrackingIdentifier(uid=self._facts.uid("tracking", name), identifier=label)

    def _algorithm(self) -> Any:
        import highdicom as hd

        algorithm = self._facts.algorithm
        return hd.sr.AlgorithmIdentification(
            algorithm.name,
            algorithm.version,
            parameters=[f"{name}={value}" for name, value in algorithm.parameters] or None,
            family=_code(algorithm.family),
            manufacturer=algorithm.source,
        )

    def _measurement(self, item: Measurement) -> Any:
        import highdicom as hd

        ends = None
        frame = item.frame_of_reference or self._frame  # without one, coordinates mean nothing
        if item.points and frame:
            ends = [
                hd.sr.CoordinatesForMeasurement3D(
                    graphic_type=hd.sr.GraphicTypeValues3D.POLYLINE,
                    graphic_data=_array(item.points),
                    frame_of_reference_uid=frame,
                )
            ]
        return hd.sr.Measurement(
            name=_code(item.concept) if item.concept else _own(item.quantity),
            value=item.value,
            unit=SrCode(item.unit, "UCUM", UNITS.get(item.unit, item.unit)),
            method=_own(item.method) if item.method else None,
            derivation=_code(item.derivation) if item.derivation else None,
            referenced_coordinates=ends,
        )

    def _segment(self, region: str) -> Any:
        """Refer to the segment of a region: by its name, since a segmentation numbers its own."""
        import highdicom as hd

        assert self._seg is not None  # noqa: S101, the caller has looked
        numbers = {segment.label: segment.number for segment in self._seg.segments}
        if region not in numbers:
            raise ValueError(
                f"the segmentation has no segment {region!r}, which was measured; it has "
                f"{', '.join(numbers)}"
            )
        return hd.sr.ReferencedSegment(
            self._seg.dataset.SOPClassUID,
            self._seg.uid,
            numbers[region],
            source_series=hd.sr.SourceSeriesForSegmentation(self._series),
        )

    def _rectangle(self, uid: str, frame: int, box: tuple[float, float, float, float]) -> Any:
        """Return a closed rectangle; SCOORD counts from the image's outer corner, as boxes do."""
        import highdicom as hd

        image = self._image(uid)
        frames = int(image.header.get("NumberOfFrames") or 1)
        left, top, right, bottom = box
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        return hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
            graphic_data=_array(corners),
            source_image=hd.sr.SourceImageForRegion(
                image.header.SOPClassUID, uid, [frame + 1] if frames > 1 else None
            ),
        )

    def _image(self, uid: str) -> Instance:
        if uid not in self._images:
            raise ValueError(f"the report is of image {uid}, which is not in its source")
        return self._images[uid]


def _entry(image: Instance) -> Dataset:
    """Return what highdicom takes from an image for its library and for the evidence.

    Whole headers would be copied several times over on the way, which takes seconds.
    """
    entry = Dataset()
    for keyword in ENTRY:
        if keyword in image.header:
            entry[keyword] = image.header[keyword]
    return entry


def _library(entries: Sequence[Dataset], shown: set[str]) -> list[Dataset]:
    """Choose the images that the library describes: those that findings are of, else one a series.

    The evidence lists all of them. To describe each slice of a large series would say the same
    some hundred times, and take highdicom seconds.
    """
    series = {one.SeriesInstanceUID: one for one in reversed(entries)}
    chosen = [one for one in entries if one.SOPInstanceUID in shown] or list(series.values())
    return [one for one in chosen if _is_describable(one)]


def _is_describable(header: Dataset) -> bool:
    """Whether an image says what its entry in the image library needs (PS3.16 TID 1603)."""
    if str(header.get("Modality")) not in PROJECTIONS:
        return True
    return len(header.get("PatientOrientation") or ()) == 2 and bool(
        header.get("ImagerPixelSpacing")
    )


def _observer(facts: Making) -> Any:
    import highdicom as hd

    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("overread", facts.device),
        name=f"{facts.algorithm.name} {facts.algorithm.version}",
        manufacturer_name=derived.MANUFACTURER,
        model_name=facts.algorithm.name,
        serial_number=facts.device,
    )
    device = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=attributes,
    )
    return hd.sr.ObservationContext(observer_device_context=device)


def _certainty(score: float) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(name=CERTAINTY, value=round(score * 100, 4), unit=PERCENT)


def _sites(site: Code | None) -> list[Any] | None:
    import highdicom as hd

    return [hd.sr.FindingSite(_code(site))] if site else None


def _code(code: Code) -> SrCode:
    return SrCode(code.value, code.scheme, code.meaning)


def _own(text: str) -> SrCode:
    """Code what has no public code: a short value that the same text always gets."""
    encoded = text.encode()
    # A meaning has 64 characters at most (LO); dciodvfy counts bytes.
    meaning = encoded[:64].decode(errors="ignore")
    return SrCode(hashlib.sha256(encoded).hexdigest()[:16], OWN_SCHEME, meaning)


def _array(points: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    import numpy as np

    return np.array([list(point) for point in points], dtype=np.float64)
