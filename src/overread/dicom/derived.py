"""What every object that we make shares: patient and study, equipment, identity, times, marks.

A writer takes the header of a source image and a `Making` (the facts of the job), and either

- begins with `start`, sets what its own IOD asks for, and ends with `finish`; or
- has another library make the object from `clean` headers, and ends with `finish`, which puts
  derived values where that library asked the clock.

Either way the same facts give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo

from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM, PersonName, validate_value

from overread import __version__
from overread.dicom.codes import ARTIFICIAL_INTELLIGENCE, Code, Segment
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Instance, Series
from overread.dicom.study import day as day_of

MANUFACTURER = "Overread"

INVESTIGATIONAL = " (investigational)"
"""Ends the descriptions of what no clinic may rely on."""

LONGEST = 64
"""Characters of a Long String (LO), PS3.5 6.2."""

OWNED = frozenset(
    {
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
        "FrameOfReferenceUID", "PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate",
        "AccessionNumber", "StudyID", "Modality", "SpecificCharacterSet", "TimezoneOffsetFromUTC",
        "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime",
        "ContentQualification", "StructureSetDate", "StructureSetTime", "ApprovalStatus",
        "CompletionFlag", "VerificationFlag", "EncapsulatedDocument",
        "MIMETypeOfEncapsulatedDocument",
    }
)  # fmt: skip
"""What a pipeline may not set: identity, form, standing and time of an object are its writer's."""

OWNED_GROUPS = frozenset({0x0002, 0x0028, 0x0062, 0x5200, 0x7FE0})
"""Groups of the same kind: file meta, pixels' form, segments, functional groups, pixels."""

IDENTITY = frozenset(
    {"PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID"}
)
"""Taken from the source images as it stands, whatever it looks like."""

SHARED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "OtherPatientIDsSequence", "PatientComments", "PatientSpeciesDescription",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
    "StudyDescription",
)  # fmt: skip
"""What an object has in common with its source images: the Patient, General Study and Patient
Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2)."""

DESCRIPTIVE_GROUPS = frozenset({0x0008, 0x0010, 0x0012})
"""Groups of which a value that does not fit its VR is left out, not copied."""

FRAMES_GROUP = 0x5200
"""Functional groups of multi-frame images."""

TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UT"})

SERIES = {"SEG": 1, "RTSTRUCT": 2, "SR": 3, "OT": 4, "DOC": 5, "M3D": 6}
"""Last two digits of the SeriesNumber of an object, by its Modality, so that what one series led
to stands beside it in a list, and in one order. Others (images) have 7."""


@dataclass(frozen=True)
class Algorithm:
    """What made the content of an object (PS3.3 table 10-19).

    Attributes
    ----------
    name, version : str
        AlgorithmName and AlgorithmVersion.
    family : Code
        AlgorithmFamilyCodeSequence.
    source : str
        AlgorithmSource: who makes it.
    parameters : tuple of (str, str)
        AlgorithmParameters: names and values.
    """

    name: str
    version: str
    family: Code = ARTIFICIAL_INTELLIGENCE
    source: str = MANUFACTURER
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Making:
    """The facts of a job that stand in what it makes.

    Attributes
    ----------
    made_by : tuple of str
        What identifies the object: job and step. Every UID in it is derived from this.
    at : datetime
        When it was made, aware.
    zone : str
        The zone of the source's dates and times, where they do not say their offset themselves.
    algorithm : Algorithm
        What made it.
    device : str
        DeviceSerialNumber: which configuration made it (pipeline and version).
    investigational : bool
        Whether it is marked so; see `finish`.
    tags : mapping
        Further attributes that the pipeline sets; see `check_tags`.
    """

    made_by: tuple[str, ...]
    at: datetime
    zone: str
    algorithm: Algorithm
    device: str
    investigational: bool = True
    tags: Mapping[str, Any] = field(default_factory=dict)

    def uid(self, *names: str) -> UID:
        """Derive a UID of this object: ``uid("instance")``, ``uid("series")``, or any other."""
        return derive_uid(*self.made_by, *names)

    def local(self, header: Dataset) -> datetime:
        """When it was made, at the one offset that holds for all times of the object.

        There is one for the whole object (PS3.3 C.12.1.1), the study's date and time included: the
        source's, or that of the site's zone on the day of the study.

        Parameters
        ----------
        header : Dataset
            Header of a source image.
        """
        return self.at.astimezone(timezone(_offset(header, self.zone, self.at)))

    def describe(self, text: str) -> str:
        """Return a description as a Long String, marked where the object is investigational."""
        mark = INVESTIGATIONAL if self.investigational else ""
        return text[: LONGEST - len(mark)] + mark

    def tracking(self, header: Dataset, label: str) -> tuple[str, UID]:
        """Return TrackingID and TrackingUID of a finding (PS3.3 C.8.20.2, TID 1411).

        The same finding of the same algorithm in the same study has the same, in every object and
        every later job, whatever the algorithm's version.

        Parameters
        ----------
        header : Dataset
            Header of a source image.
        label : str
            What the finding is called: a segment's label.
        """
        name = self.algorithm.name
        study = str(header.get("StudyInstanceUID", ""))
        return f"{name}: {label}", derive_uid(study, "tracking", name, label)

    def series_number(self, header: Dataset, modality: str) -> int:
        """Return the SeriesNumber of the object: the source's, and two digits of its own."""
        return abs(int(header.get("SeriesNumber") or 0)) % 10**7 * 100 + SERIES.get(modality, 7)


def check_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Check attributes that a pipeline sets in the objects it makes.

    Parameters
    ----------
    tags : mapping
        Keyword (PS3.6) to value.

    Raises
    ------
    ValueError
        A keyword is unknown or not the pipeline's to set, or a value does not fit its VR.
    """
    checked: dict[str, str] = {}
    for keyword, value in tags.items():
        number = tag_for_keyword(keyword)
        if number is None:
            close = get_close_matches(keyword, keyword_dict, n=1)
            hint = f"write {close[0]}" if close else "write a keyword of PS3.6"
            raise ValueError(f"{keyword} is not the keyword of a DICOM attribute; {hint}")
        if keyword in OWNED or Tag(number).group in OWNED_GROUPS:
            raise ValueError(f"{keyword} is set by Overread and cannot be set by a pipeline")
        vr = dictionary_VR(number)
        if vr in ("SQ", "OB", "OW", "UN", "OB or OW", "OF", "OD", "OL", "OV"):
            raise ValueError(f"{keyword} holds {vr}, which cannot be written as text")
        for part in str(value).split("\\"):
            validate_value(vr, part, RAISE)
        checked[keyword] = str(value)
    return checked


def start(
    header: Dataset, making: Making, *, sop_class: str, modality: str, description: str
) -> Dataset:
    """Begin an object: all modules that do not depend on what it holds.

    Patient, General Study, Patient Study, General Series, General and Enhanced General Equipment,
    SOP Common, and the file meta information (Explicit VR Little Endian).

    Parameters
    ----------
    header : Dataset
        Header of a source image; it is not changed.
    making : Making
        The facts of the job.
    sop_class : str
        SOPClassUID.
    modality : str
        Modality.
    description : str
        SeriesDescription; cut to fit, and marked where investigational.

    Returns
    -------
    Dataset
        To be completed, and then given to `finish`.
    """
    source, local = clean(header), making.local(header)
    made = Dataset()
    for keyword in SHARED:
        if keyword in source:
            made[keyword] = source[keyword]
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = making.uid("instance")
    made.Modality = modality
    made.SeriesInstanceUID = making.uid("series")
    made.SeriesNumber = making.series_number(header, modality)
    made.SeriesDescription = making.describe(description)
    made.SeriesDate, made.SeriesTime = DA(local.date()), TM(local.time())
    made.InstanceNumber = 1
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = f"{making.algorithm.name} {making.algorithm.version}"[:LONGEST]
    made.DeviceSerialNumber = making.device[:LONGEST]
    made.SoftwareVersions = f"overread {__version__}"
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def finish(
    made: Dataset,
    header: Dataset,
    making: Making,
    *,
    kind: str,
    sources: Iterable[str] = (),
    segments: tuple[Segment, ...] = (),
) -> DerivedObject:
    """End an object: its times, the tags of the pipeline, and its standing.

    Where the object is investigational, SeriesDescription says so unless the pipeline sets that,
    ContentDescription and StructureSetDescription say so in any case, where the object has them,
    and a ContentQualification is RESEARCH.

    Parameters
    ----------
    made : Dataset
        The object, with file meta information: begun by `start`, or made by a library. Changed.
    header : Dataset
        Header of the source image that it was begun with.
    making : Making
        The facts of the job.
    kind : str
        What a `DerivedObject` is called: ``segmentation``, ``structure set``, ``report`` …
    sources : iterable of str
        SOP Instance UIDs of the images it was made from; each counts once.
    segments : tuple of Segment
        What it holds, numbered as in the object.

    Raises
    ------
    ValueError
        A tag is wrong.
    """
    local = making.local(header)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.InstanceCreationDate, made.InstanceCreationTime = DA(local.date()), TM(local.time())
    made.TimezoneOffsetFromUTC = f"{local:%z}"
    for item in made.get("ContributingEquipmentSequence") or ():
        if "ContributionDateTime" in item:  # highdicom's own, which asked the clock
            item.ContributionDateTime = f"{local:%Y%m%d%H%M%S.%f%z}"
    for keyword, value in check_tags(making.tags).items():
        text = value.split("\\") if "\\" in value else value
        made.add(DataElement(keyword, dictionary_VR(keyword), text))
    if "ContentQualification" in made:
        made.ContentQualification = "RESEARCH" if making.investigational else "PRODUCT"
    for keyword in ("ContentDescription", "StructureSetDescription"):
        told = str(made.get(keyword) or "investigational").lower()
        if making.investigational and "investigational" not in told:
            made[keyword].value = making.describe(made[keyword].value)
    return DerivedObject(made, kind, segments, tuple(dict.fromkeys(sources)))


def coded(code: Code) -> Dataset:
    """Return a coded term as a sequence item (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme
    item.CodeMeaning = code.meaning
    return item


def identify(algorithm: Algorithm) -> Dataset:
    """Return an item of the Algorithm Identification macro (PS3.3 table 10-19)."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [coded(algorithm.family)]
    item.AlgorithmName, item.AlgorithmVersion = algorithm.name, algorithm.version
    item.AlgorithmSource = algorithm.source
    if algorithm.parameters:
        item.AlgorithmParameters = ",".join(
            f"{name}={value}" for name, value in algorithm.parameters
        )
    return item


def reference(instance: Instance) -> Dataset:
    """Return an item that names an instance: its SOP Class and SOP Instance UID."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.header.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.uid
    return item


def refer_to(made: Dataset, *series: Series) -> None:
    """Name the source images in the Common Instance Reference module (PS3.3 C.12.2).

    Series of other Studies stand in StudiesContainingOtherReferencedInstancesSequence.
    """
    own: list[Dataset] = []
    others: dict[str, list[Dataset]] = {}
    for one in series:
        item = Dataset()
        item.SeriesInstanceUID = one.uid
        item.ReferencedInstanceSequence = [reference(instance) for instance in one]
        study = str(one.header.StudyInstanceUID)
        (own if study == made.StudyInstanceUID else others.setdefault(study, [])).append(item)
    if own:
        made.ReferencedSeriesSequence = own
    elsewhere = []
    for study, items in others.items():
        other = Dataset()
        other.StudyInstanceUID, other.ReferencedSeriesSequence = study, items
        elsewhere.append(other)
    if elsewhere:
        made.StudiesContainingOtherReferencedInstancesSequence = elsewhere


def clean(header: Dataset) -> Dataset:
    """Copy the header that patient and study are taken from, as Unicode and without bad values.

    Optional attributes whose value does not fit their VR are left out; those that every object has
    are empty where the source has none. What an image says of its frames is left out too.
    """
    copied = Dataset()
    for element in header:
        if element.tag.group != FRAMES_GROUP:
            copied[element.tag] = deepcopy(element)
    copied.decode()
    for element in list(copied):
        if element.tag.group in DESCRIPTIVE_GROUPS and element.keyword not in IDENTITY:
            values = element.value if element.VM > 1 else [element.value]
            try:
                for value in values if element.VR in TEXT_VRS else ():
                    validate_value(element.VR, str(value or ""), RAISE)
            except ValueError:
                del copied[element.tag]
    for keyword in ("PatientID", "AccessionNumber", "StudyID"):
        if copied.get(keyword) is None:
            setattr(copied, keyword, "")
    for keyword, kind in (("StudyDate", DA), ("StudyTime", TM), ("PatientBirthDate", DA)):
        try:
            setattr(copied, keyword, kind(copied.get(keyword) or None))
        except ValueError:  # in the form of its VR, but no date: 20261399
            setattr(copied, keyword, None)
    for keyword in ("PatientName", "ReferringPhysicianName"):
        setattr(copied, keyword, PersonName(str(copied.get(keyword) or "")))
    sex = str(copied.get("PatientSex") or "")
    copied.PatientSex = sex if sex in ("M", "F", "O") else ""
    return copied


def _offset(header: Dataset, zone: str, at: datetime) -> timedelta:
    written = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(header.get("TimezoneOffsetFromUTC") or ""))
    if written:
        ahead = timedelta(hours=int(written[2]), minutes=int(written[3]))
        return -ahead if written[1] == "-" else ahead
    day = day_of(str(header.get("StudyDate") or ""))
    when = datetime(day.year, day.month, day.day, 12) if day else at.replace(tzinfo=None)  # noqa: DTZ001
    return ZoneInfo(zone).utcoffset(when) or timedelta(0)
