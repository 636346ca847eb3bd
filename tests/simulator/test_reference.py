from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from overread.errors import Unavailable
from overread.simulator import reference
from overread.simulator.instances import make_instances
from overread.simulator.reference import agreement, fetch_real_cases, read_segmentation
from tests.simulator.test_instances import oblique, order


def test_agreement_is_dice_and_millilitres() -> None:
    grid = oblique()
    truth = np.zeros(grid.array.shape, np.uint8)
    truth[1, :4, :10] = 1
    found = np.zeros_like(truth)
    found[1, :2, :10] = 3
    found[2, 0, :10] = 3
    same = agreement(found, grid.with_array(truth))
    assert same.dice == pytest.approx(2 * 20 / (40 + 30))
    assert same.reference_ml == pytest.approx(40 * grid.voxel_volume / 1000)
    assert same.found_ml == pytest.approx(30 * grid.voxel_volume / 1000)
    assert agreement(0 * found, grid.with_array(0 * truth)).dice == 1
    assert agreement(0 * found, grid.with_array(truth)).dice == 0
    with pytest.raises(ValueError, match="shapes differ"):
        agreement(found[1:], grid.with_array(truth))


def test_a_segmentation_is_read_over_its_sources(tmp_path: Path) -> None:
    images = make_instances(oblique(), order())
    mask = np.zeros((6, 20, 24), np.uint8)
    mask[2, 3:7, 5:9] = 1
    mask[4, 1, 2] = 1
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type="MANUAL",
    )
    made = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(tmp_path / "seg.dcm")
    back = read_segmentation(tmp_path / "seg.dcm", [one.SOPInstanceUID for one in images])
    assert np.array_equal(back, mask)


def test_the_real_cases_are_fetched_once_and_lie_on_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        cases = fetch_real_cases(tmp_path)
    except Unavailable as error:
        pytest.skip(f"the real cases cannot be had here: {error}")
    assert [case.name for case in cases] == ["brain1", "brain2"]
    truth = cases[0].reference()
    assert truth.array.shape == (25, 256, 256)
    assert int(truth.array.sum()) * truth.voxel_volume / 1000 == pytest.approx(16.41, abs=0.01)
    monkeypatch.setattr(reference, "_pip", None)
    assert fetch_real_cases(tmp_path) == cases


def test_what_cannot_be_fetched_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(Unavailable, match=r"pip install failed: .*No matching distribution"):
        fetch_real_cases(tmp_path / "cases")
    assert not (tmp_path / "cases").exists()
