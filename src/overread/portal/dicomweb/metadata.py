"""Headers as DICOM JSON (PS3.18 annex F): what a search answers, and an instance's metadata."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import VR

from overread.portal.dicomweb.source import PIXELS, NotThere, header, opened, syntax_of
from overread.store.archive import Archive
from overread.store.studies import Found
from overread.store.tables import Instance

_log = logging.getLogger(__name__)

_INLINE = 1024
"""Bytes of a binary value up to which it stands in the JSON itself."""

_BINARY = frozenset({VR.OB, VR.OD, VR.OF, VR.OL, VR.OV, VR.OW, VR.UN})
_BASE = "\N{NULL}base"
"""Stands for the address of the instance, so that one conversion serves whatever host is asked."""

_UNWRITABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises on values that are not as their VR says; it has no single error for that."""

Json = dict[str, dict[str, Any]]

_COLUMNS: dict[str, tuple[str, str]] = {
    "study_uid": ("StudyInstanceUID", "UI"),
    "patient_id": ("PatientID", "LO"),
    "issuer": ("IssuerOfPatientID", "LO"),
    "patient_name": ("PatientName", "PN"),
    "patient_birth_date": ("PatientBirthDate", "DA"),
    "patient_sex": ("PatientSex", "CS"),
    "accession": ("AccessionNumber", "SH"),
    "study_id": ("StudyID", "SH"),
    "study_date": ("StudyDate", "DA"),
    "study_time": ("StudyTime", "TM"),
    "study_description": ("StudyDescription", "LO"),
    "series_uid": ("SeriesInstanceUID", "UI"),
    "modality": ("Modality", "CS"),
    "series_number": ("SeriesNumber", "IS"),
    "series_description": ("SeriesDescription", "LO"),
    "series_date": ("SeriesDate", "DA"),
    "series_time": ("SeriesTime", "TM"),
    "body_part": ("BodyPartExamined", "CS"),
    "sop_instance_uid": ("SOPInstanceUID", "UI"),
    "sop_class_uid": ("SOPClassUID", "UI"),
    "transfer_syntax_uid": ("AvailableTransferSyntaxUID", "UI"),
    "instance_number": ("InstanceNumber", "IS"),
    "rows": ("Rows", "US"),
    "columns": ("Columns", "US"),
    "frames": ("NumberOfFrames", "IS"),
}


def _key(tag: int | None) -> str:
    return f"{tag or 0:08X}"


def element(keyword: str, vr: str, *values: Any) -> Json:
    """Write one attribute; no value where they are all empty."""
    written = [_plain(vr, value) for value in values if value not in (None, "")]
    attribute: dict[str, Any] = {"vr": vr}
    if written:
        attribute["Value"] = written
    return {_key(tag_for_keyword(keyword)): attribute}


def _plain(vr: str, value: Any) -> Any:
    if vr == "PN":
        names = ("Alphabetic", "Ideographic", "Phonetic")
        return {
            name: part for name, part in zip(names, str(value).split("="), strict=False) if part
        }
    if vr == "IS":
        text = str(value).strip()
        return int(text) if text.lstrip("+-").isdigit() else text
    return value


def found_json(found: Found, base: str) -> Json:
    """Write what a search found.

    Parameters
    ----------
    base : str
        Address of the service, for RetrieveURL.
    """
    values = found.values
    answer: Json = {}
    for column, value in values.items():
        answer |= element(*_COLUMNS[column], value)
    url = f"{base}/studies/{values['study_uid']}"
    if "series_uid" in values:
        url += f"/series/{values['series_uid']}"
    if "sop_instance_uid" in values:
        url += f"/instances/{values['sop_instance_uid']}"
    elif "series_uid" in values:
        answer |= element("NumberOfSeriesRelatedInstances", "IS", found.instances)
    else:
        answer |= element("ModalitiesInStudy", "CS", *found.modalities)
        answer |= element("NumberOfStudyRelatedSeries", "IS", found.series)
        answer |= element("NumberOfStudyRelatedInstances", "IS", found.instances)
    answer |= element("InstanceAvailability", "CS", "ONLINE")
    answer |= element("RetrieveURL", "UR", url)
    answer |= element("SpecificCharacterSet", "CS", "ISO_IR 192")
    return dict(sorted(answer.items()))


def instance_url(base: str, instance: Instance) -> str:
    """Return the address of an instance."""
    return (
        f"{base}/studies/{instance.study_uid}/series/{instance.series_uid}"
        f"/instances/{instance.sop_instance_uid}"
    )


def instance_json(archive: Archive, instance: Instance, base: str) -> str:
    """Write an instance's metadata as one JSON object, binary values by their address."""
    # Headers of many frames run to megabytes: those are not remembered.
    read = _metadata if instance.frames == 1 else _metadata.__wrapped__
    text = read(archive.root, instance.key, instance.transfer_syntax_uid)
    return text.replace(json.dumps(_BASE)[1:-1], json.dumps(instance_url(base, instance))[1:-1])


@lru_cache(maxsize=4096)
def _metadata(root: Path, key: str, syntax: str) -> str:
    stored = Instance(key=key, transfer_syntax_uid=syntax)
    with opened(Archive(root), stored) as file:
        dataset, pixels = header(file)
        answer = dataset_json(dataset, f"{_BASE}/bulkdata")
        if pixels is not None:
            answer[_key(pixels.tag)] = {
                "vr": pixels.vr,
                "BulkDataURI": f"{_BASE}/bulkdata/{_key(pixels.tag)}",
            }
    answer |= element("SpecificCharacterSet", "CS", "ISO_IR 192")
    answer |= element("AvailableTransferSyntaxUID", "UI", syntax_of(stored))
    return json.dumps(dict(sorted(answer.items())), ensure_ascii=False, allow_nan=False)


def dataset_json(dataset: Dataset, bulk: str) -> Json:
    """Write a dataset.

    A value that its VR does not allow is left out, and noted in the log, rather than that the
    whole study could not be shown.

    Parameters
    ----------
    bulk : str
        Address below which its big binary values are found.
    """
    answer: Json = {}
    for tag in sorted(dataset.keys()):
        if tag.element == 0:
            continue  # group lengths have no place in JSON (PS3.18 F.2.2)
        address = f"{bulk}/{_key(tag)}"
        item = dataset.get_item(tag)
        if vr := _outside(item):
            answer[_key(tag)] = {"vr": vr, "BulkDataURI": address}
            continue
        try:
            answer[_key(tag)] = _element_json(dataset[tag], address)
        except _UNWRITABLE as error:
            _log.warning("element %s is left out of the metadata: %s", tag, type(error).__name__)
    return answer


def _element_json(value: DataElement, address: str) -> dict[str, Any]:
    if value.VR == VR.SQ:
        items = [dataset_json(item, f"{address}/{n}") for n, item in enumerate(value.value or [])]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if value.VR in _BINARY and value.value is not None and len(value.value) > _INLINE:
        return {"vr": str(value.VR), "BulkDataURI": address}
    written = value.to_json_dict(None, 0)
    json.dumps(written, allow_nan=False)
    return written


def _vr(raw: RawDataElement) -> str:
    if raw.VR is not None:
        return raw.VR
    try:
        return dictionary_VR(raw.tag).split(" ")[0]
    except KeyError:
        return "UN"


def _outside(raw: DataElement | RawDataElement | None) -> str:
    """Return the VR of an element that is big, binary and not read yet; else nothing."""
    if not isinstance(raw, RawDataElement) or not _INLINE < raw.length < 0xFFFFFFFF:
        return ""
    vr = _vr(raw)
    return vr if vr in _BINARY else ""


def bulk_value(dataset: Dataset, path: str) -> bytes:
    """Return a binary value by its address: tags and item numbers, in turn.

    Raises
    ------
    NotThere
        There is no such value.
    """
    *steps, last = path.split("/")
    here = dataset
    try:
        for tag, number in zip(steps[::2], steps[1::2], strict=True):
            here = here[_tag(tag)].value[int(number)]
        value = here[_tag(last)].value
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise NotThere(f"there is no value at {path}") from error
    if not isinstance(value, bytes):
        raise NotThere(f"the value at {path} is not binary; it stands in the metadata")
    return value


def _tag(text: str) -> BaseTag:
    return Tag(int(text, 16))


def is_pixels(path: str) -> bool:
    """Say whether an address of a value is that of the pixel data."""
    return path in {_key(tag) for tag in PIXELS}


def array(objects: Iterator[str]) -> Iterator[bytes]:
    """Write a JSON array, an object at a time."""
    yield b"["
    for number, text in enumerate(objects):
        yield (("," if number else "") + text).encode()
    yield b"]"
