from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from overread.dicom.codes import Code
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Exam, Series
from overread.operators.join import join_measurements
from overread.operators.measure import measure_volumes
from overread.operators.read import read_volume
from overread.operators.sr import CERTAINTY, FINDING, write_sr
from overread.operators.write import write_seg
from overread.pipelines.ports import Account
from overread.validation.results import (
    Class,
    Classification,
    Detection,
    Detections,
    Measurement,
    Measurements,
)
from tests.dicom.series import LESION, affine, ball, images, keep, read
from tests.operators.test_write import CONTEXT, mask
from tests.runtimes.tiny import tiny_model

LONG_AXIS = Code("103339001", "SCT", "Long axis")
FRACTURE = Code("125605004", "SCT", "Fracture of bone")
HIP = Code("24136001", "SCT", "Hip joint structure")


@pytest.fixture
def source(tmp_path: Path) -> Series:
    return keep(images(np.zeros((4, 8, 8), np.int16), affine()), tmp_path)


def errors(made: DerivedObject, folder: Path) -> list[str]:
    """What dciodvfy calls an error."""
    file = folder / "made.dcm"
    file.write_bytes(made.encode())
    told = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    return [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


def measured(source: Series) -> tuple[Measurements, DerivedObject]:
    """A volume and a line in a region, and its segmentation."""
    found = mask(source)
    volumes = measure_volumes(found)
    line = Measurement(
        LESION.label, "longest diameter", 12.25, "mm", "longest axial diameter",
        1, LONG_AXIS, LESION.type, LESION.anatomy, ((1.0, 2.0, 3.0), (1.0, 14.25, 3.0)),
    )  # fmt: skip
    seg = write_seg(found, source, replace(CONTEXT, step="seg"), Account())
    return join_measurements(volumes, Measurements((line,))), seg


def read_back(made: DerivedObject, folder: Path) -> Any:
    file = folder / "sr.dcm"
    file.write_bytes(made.encode())
    return hd.sr.srread(file)


def test_measurements_read_back_to_the_same_numbers(tmp_path: Path, source: Series) -> None:
    measurements, seg = measured(source)
    made = write_sr(source, CONTEXT, Account(), measurements, seg=seg)
    report = read_back(made, tmp_path)
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    (volume,) = group.get_measurements()
    assert (volume.value, volume.unit.value) == (measurements.items[0].value, "mL")
    segment = group.referenced_segment
    assert segment.referenced_sop_instance_uid == seg.uid
    assert list(segment.referenced_segment_numbers) == [1]
    assert group.finding_type.value == LESION.type.value
    (group,) = report.content.get_image_measurement_groups()
    (line,) = group.get_measurements()
    assert (line.name.value, line.value, line.unit.value) == (LONG_AXIS.value, 12.25, "mm")
    (ends,) = [item for item in line[0].ContentSequence if item.ValueType == "SCOORD3D"]
    assert list(ends.GraphicData) == [1.0, 2.0, 3.0, 1.0, 14.25, 3.0]
    assert ends.ReferencedFrameOfReferenceUID == source.header.FrameOfReferenceUID


def test_a_line_lies_in_the_frame_of_reference_that_it_was_measured_in(
    tmp_path: Path, source: Series
) -> None:
    """Also where the exam holds images of another one: those of a baseline come first."""
    baseline = keep(images(np.zeros((4, 8, 8), np.int16), affine(), name="two"), tmp_path / "two")
    for one in baseline:
        one.header.StudyInstanceUID = source.header.StudyInstanceUID
    exam = Exam((*baseline.instances, *source.instances))
    (line,) = measured(source)[0].items[1:]
    for frame, expected in (("", []), (source.header.FrameOfReferenceUID, [2])):
        made = write_sr(
            exam, CONTEXT, Account(), Measurements((replace(line, frame_of_reference=frame),))
        )
        report = read_back(made, tmp_path)
        (group,) = report.content.get_image_measurement_groups()
        (found,) = group.get_measurements()
        lines = [item for item in found[0].get("ContentSequence", ()) if "GraphicData" in item]
        assert [len(one.GraphicData) // 3 for one in lines] == expected
        assert all(one.ReferencedFrameOfReferenceUID == frame for one in lines)


def test_a_detection_is_a_rectangle_in_its_image(tmp_path: Path, source: Series) -> None:
    uid = source.instances[2].uid
    found = Detections(
        (Detection("1", "left hip", 0.875, uid, 0, (1.5, 2.0, 5.0, 7.25), HIP),), (uid,), ""
    )
    report = read_back(write_sr(source, CONTEXT, Account(), detections=found), tmp_path)
    (group,) = report.content.get_planar_roi_measurement_groups()
    region = group.roi
    corners = [[1.5, 2], [5, 2], [5, 7.25], [1.5, 7.25], [1.5, 2]]
    np.testing.assert_array_equal(region.value, corners)
    (score,) = group.get_measurements(name=hd.sr.CodedConcept.from_code(CERTAINTY))
    assert (score.value, score.unit.value) == (87.5, "%")
    assert group.finding_type.value == HIP.value


def test_a_radiograph_that_says_no_orientation_is_reported_too(
    tmp_path: Path, shared_data: Path
) -> None:
    source = read(shared_data / "hip_xray" / "dicoms" / "xray", "331_DDH_1.dcm")
    uid = source.instances[0].uid
    found = Detections((Detection("1", "left hip", 0.9, uid, 0, (9.0, 9.0, 90.0, 90.0), HIP),))
    made = write_sr(source, CONTEXT, Account(), detections=found)
    assert errors(made, tmp_path) == []
    assert uid in made.sources


@pytest.mark.parametrize("box", [(1.0, 1.0, 4.0, 4.0), None])
def test_a_class_is_an_evaluation(tmp_path: Path, source: Series, box: Any) -> None:
    uid = source.instances[0].uid
    said = Classification(
        (Class("left hip", "fracture", 0.75, {"fracture": 0.75, "normal": 0.25}, uid, 0, box, "1",
               FRACTURE, HIP),),
        (uid,),
    )  # fmt: skip
    report = read_back(write_sr(source, CONTEXT, Account(), classification=said), tmp_path)
    groups = (
        report.content.get_planar_roi_measurement_groups()
        if box
        else report.content.get_image_measurement_groups()
    )
    (group,) = groups
    (finding,) = group.get_qualitative_evaluations(name=hd.sr.CodedConcept.from_code(FINDING))
    assert finding.value.value == FRACTURE.value
    (score,) = group.get_measurements()
    assert score.value == 75


def test_it_is_valid_and_belongs_to_its_images(tmp_path: Path, source: Series) -> None:
    measurements, seg = measured(source)
    uid = source.instances[2].uid
    found = Detections((Detection("1", "spot", 0.5, uid, 0, (1, 2, 5, 7)),), (uid,))
    said = Classification((Class("spot", "bad", 0.5, {"bad": 0.5}, uid, 0, (1, 2, 5, 7), "1"),))
    made = write_sr(source, CONTEXT, Account(), measurements, found, said, seg)
    assert errors(made, tmp_path) == []
    header = source.header
    for keyword in ("PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert str(made.dataset[keyword].value) == str(header[keyword].value)
    assert str(made.dataset.PatientName) == "Müller^Jane"
    assert made.dataset.SeriesInstanceUID != header.SeriesInstanceUID
    assert made.sources == tuple(one.uid for one in source)
    assert {
        item.ReferencedSOPInstanceUID
        for study in made.dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    } == {*made.sources, seg.uid}


def test_the_model_observes_and_the_stage_decides_whether_it_is_preliminary(
    tmp_path: Path, source: Series
) -> None:
    card = tiny_model(tmp_path / "model").card
    measurements, seg = measured(source)
    for stage, flag in (("validation", "PRELIMINARY"), ("clinical", "FINAL")):
        context = replace(CONTEXT, stage=stage, models=(card,))
        made = write_sr(source, context, Account(), measurements, seg=seg)
        assert made.dataset.PreliminaryFlag == flag
        assert made.dataset.VerificationFlag == "UNVERIFIED"
        assert ("investigational" in made.dataset.SeriesDescription) == (stage != "clinical")
        assert f"sha256={card.sha256}".encode() in made.encode()


def test_the_same_is_the_same_bytes_at_another_time(source: Series) -> None:
    import time

    measurements, seg = measured(source)
    one = write_sr(source, CONTEXT, Account(), measurements, seg=seg).encode()
    time.sleep(1.1)
    assert write_sr(source, CONTEXT, Account(), measurements, seg=seg).encode() == one


def test_what_cannot_be_reported_is_told(source: Series) -> None:
    with pytest.raises(ValueError, match="nothing to report"):
        write_sr(source, CONTEXT, Account())
    other = Detections((Detection("1", "spot", 0.5, "1.2.3", 0, (1, 2, 5, 7)),), ("1.2.3",))
    with pytest.raises(ValueError, match=r"image 1\.2\.3, which is not in its source"):
        write_sr(source, CONTEXT, Account(), detections=other)
    measurements, seg = measured(source)
    renamed = Measurements(tuple(replace(item, region="liver") for item in measurements.items))
    with pytest.raises(ValueError, match="no segment 'liver'"):
        write_sr(source, CONTEXT, Account(), renamed, seg=seg)


def test_nothing_found_is_a_report_all_the_same(tmp_path: Path, source: Series) -> None:
    account = Account()
    none = Detections((), tuple(one.uid for one in source))
    made = write_sr(source, CONTEXT, account, detections=none)
    assert errors(made, tmp_path) == []
    assert any("nothing was found" in note for note in account.notes)


def test_a_real_series(tmp_path: Path, shared_data: Path) -> None:
    from overread.dicom.volume import Mask
    from tests.dicom.series import read

    source = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    volume = read_volume(source, Account())
    found = Mask(
        ball((len(source), *volume.array.shape[1:])).astype(np.uint8), volume.affine, (LESION,),
        volume.frame_of_reference,
    )  # fmt: skip
    seg = write_seg(found, source, CONTEXT, Account())
    measurements = measure_volumes(found)
    made = write_sr(source, replace(CONTEXT, step="sr"), Account(), measurements, seg=seg)
    assert errors(made, tmp_path) == []
    report = read_back(made, tmp_path)
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert group.get_measurements()[0].value == pytest.approx(measurements.items[0].value)
    assert dcmread(tmp_path / "made.dcm").StudyInstanceUID == source.header.StudyInstanceUID
