from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from overread.dicom.codes import TISSUE
from overread.dicom.derived import (
    Algorithm,
    Making,
    check_tags,
    clean,
    coded,
    finish,
    identify,
    refer_to,
    start,
)
from overread.dicom.study import Instance, Series
from tests.dicom.series import affine, images

MAKING = Making(
    made_by=("job-1", "thing"),
    at=datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC),
    zone="America/Los_Angeles",
    algorithm=Algorithm("brain-tumour", "1.0.0", parameters=(("sha256", "0f"), ("a", "b"))),
    device="brain-tumour@1.0.0",
)


@pytest.fixture
def header() -> Dataset:
    return images(np.zeros((3, 4, 5), np.int16), affine())[0]


def begin(header: Dataset, making: Making = MAKING, description: str = "A thing") -> Dataset:
    return start(
        header,
        making,
        sop_class=SecondaryCaptureImageStorage,
        modality="OT",
        description=description,
    )


def test_patient_and_study_are_the_source_s_and_the_rest_is_ours(header: Dataset) -> None:
    made = finish(begin(header), header, MAKING, kind="thing", sources=["1.2", "1.3", "1.2"])
    written = made.dataset
    for keyword in ("PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyID"):
        assert str(written[keyword].value) == str(header[keyword].value)
    assert str(written.PatientName) == "Müller^Jane"
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert written.Manufacturer == "Overread"
    assert written.ManufacturerModelName == "brain-tumour 1.0.0"
    assert written.DeviceSerialNumber == "brain-tumour@1.0.0"
    assert written.SeriesInstanceUID not in (header.SeriesInstanceUID, written.SOPInstanceUID)
    assert written.SeriesNumber == 504
    assert written.SeriesDescription == "A thing (investigational)"
    # One offset for the whole object, and a study of July lies in daylight saving time.
    assert written.TimezoneOffsetFromUTC == "-0700"
    assert str(written.InstanceCreationTime).startswith("023015")
    for keyword in ("Rows", "ImagePositionPatient", "SliceThickness", "AcquisitionDate"):
        assert keyword not in written
    assert made.sources == ("1.2", "1.3")
    assert made.encode() == finish(begin(header), header, MAKING, kind="thing").encode()


def test_another_step_makes_another_object(header: Dataset) -> None:
    other = begin(header, replace(MAKING, made_by=("job-1", "other")))
    assert other.SOPInstanceUID != begin(header).SOPInstanceUID
    assert other.SeriesInstanceUID != begin(header).SeriesInstanceUID


def test_descriptions_fit_and_are_marked(header: Dataset) -> None:
    made = begin(header, description="x" * 100)
    assert made.SeriesDescription == "x" * 46 + " (investigational)"
    clinical = replace(MAKING, investigational=False)
    assert begin(header, clinical, "x" * 100).SeriesDescription == "x" * 64


@pytest.mark.parametrize(
    ("investigational", "qualification", "described"),
    [(True, "RESEARCH", "Ours (investigational)"), (False, "PRODUCT", "Ours")],
)
def test_the_mark_stands_whatever_the_pipeline_sets(
    header: Dataset, investigational: bool, qualification: str, described: str
) -> None:
    tags = {"ContentDescription": "Ours", "SeriesDescription": "AI"}
    making = replace(MAKING, investigational=investigational, tags=tags)
    made = begin(header, making)
    made.ContentQualification = "SERVICE"
    made.ContentDescription = ""
    written = finish(made, header, making, kind="thing").dataset
    assert written.ContentQualification == qualification
    assert written.ContentDescription == described
    assert written.SeriesDescription == "AI"


def test_bad_values_are_left_out_and_the_header_stays_as_it_is(header: Dataset) -> None:
    with warnings.catch_warnings(action="ignore"):
        header.PatientAge, header.PatientSex, header.StudyDate = "0Y", "X", "20261399"
        header.StudyTime = "noon"
        del header.AccessionNumber
        copied = clean(header)
    assert "PatientAge" not in copied
    for keyword in ("PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
        assert not copied[keyword].value
    assert header.PatientAge == "0Y"
    assert "AccessionNumber" not in header


def test_frames_are_not_copied(header: Dataset) -> None:
    header.PerFrameFunctionalGroupsSequence = [Dataset()]
    assert "PerFrameFunctionalGroupsSequence" not in clean(header)


def test_a_finding_keeps_its_tracking_uid(header: Dataset) -> None:
    later = replace(MAKING, made_by=("job-2", "thing"), at=datetime(2027, 1, 1, tzinfo=UTC))
    newer = replace(MAKING, algorithm=Algorithm("brain-tumour", "2.0.0"))
    named, uid = MAKING.tracking(header, "Tumour")
    assert named == "brain-tumour: Tumour"
    assert {later.tracking(header, "Tumour")[1], newer.tracking(header, "Tumour")[1]} == {uid}
    assert MAKING.tracking(header, "Oedema")[1] != uid
    header.StudyInstanceUID = "1.2.3"
    assert MAKING.tracking(header, "Tumour")[1] != uid


def test_series_of_other_studies_stand_apart(header: Dataset) -> None:
    here = Series((Instance(header),))
    there = Series(
        tuple(Instance(one) for one in images(np.zeros((2, 4, 5)), affine(), name="earlier"))
    )
    made = begin(header)
    refer_to(made, here, there)
    (own,) = made.ReferencedSeriesSequence
    assert own.SeriesInstanceUID == here.uid
    (study,) = made.StudiesContainingOtherReferencedInstancesSequence
    assert study.StudyInstanceUID == there.header.StudyInstanceUID
    assert len(study.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 2


def test_algorithm_and_codes_are_items_of_their_macros() -> None:
    item = identify(MAKING.algorithm)
    assert (item.AlgorithmName, item.AlgorithmVersion) == ("brain-tumour", "1.0.0")
    assert item.AlgorithmParameters == "sha256=0f,a=b"
    assert item.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert coded(TISSUE).CodingSchemeDesignator == "SCT"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SeriesDescripton": "x"}, "SeriesDescripton is not the keyword of a DICOM attribute"),
        ({"PatientID": "x"}, "PatientID is set by Overread"),
        ({"ApprovalStatus": "APPROVED"}, "ApprovalStatus is set by Overread"),
        ({"Rows": 5}, "Rows is set by Overread"),
        ({"SeriesDate": "yesterday"}, "DA"),
        ({"SeriesDescription": "x" * 65}, "LO"),
        ({"RequestAttributesSequence": "x"}, "cannot be written as text"),
    ],
)
def test_tags_are_checked(tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_tags(tags)
