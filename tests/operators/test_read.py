from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from overread.dicom.stacks import Split
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Source
from overread.errors import GeometryError
from overread.operators.grid import to_source
from overread.operators.read import read_volume
from overread.operators.write import write_seg
from overread.pipelines.check import check_value
from overread.pipelines.ports import Account, signature
from tests.dicom.series import LESION, affine, images, keep, read
from tests.operators.test_write import CONTEXT


def test_every_slice_is_accounted_for(tmp_path: Path) -> None:
    series = keep(images(np.zeros((4, 5, 6), np.int16), affine()), tmp_path)
    account = Account()
    volume = read_volume(series, account)
    assert volume.array.shape == (4, 5, 6)
    assert [uid for uid, _ in account.used] == [one.uid for one in series]
    assert account.notes == ["4 slices of 5 × 6, voxels of 5.000 × 0.900 × 0.900 mm"]


def two_echoes(folder: Path) -> Series:
    """Two echoes of four slices, the second twice as bright."""
    made: list[Dataset] = []
    for number in (1, 2):
        array = np.full((4, 5, 6), number * 10, np.int16)
        for one in images(array, affine(), name=f"echo {number}"):
            one.SeriesInstanceUID, one.EchoTime = "1.2.3", str(2.5 * number)
            one.StudyInstanceUID, one.FrameOfReferenceUID = "1.2", "1.4"
            made.append(one)
    return keep(made, folder)


def test_one_echo_is_read_and_the_other_accounted_for(tmp_path: Path) -> None:
    series = two_echoes(tmp_path)
    with pytest.raises(GeometryError, match=r"several volumes: .*EchoTime \(2\.5, 5\)"):
        read_volume(series, Account())
    account = Account()
    volume = read_volume(series, account, split=Split("EchoTime", value=5))
    assert set(volume.array.flat) == {20}
    assert {uid for uid, _ in account.used} == {one.uid for one in series.instances[4:]}
    assert account.unused == [
        (one.uid, "another volume: EchoTime 2.5") for one in series.instances[:4]
    ]
    source = volume.origin
    assert source.planes == tuple((one.uid, 0) for one in series.instances[4:])


def test_a_segmentation_refers_to_the_echo_that_was_read(tmp_path: Path) -> None:
    series = two_echoes(tmp_path)
    volume = read_volume(series, Account(), split=[Split("EchoTime", 2)])
    made = Mask(np.ones((4, 5, 6), np.uint8), volume.affine, (LESION,), source=volume.source)
    seg = write_seg(made, series, CONTEXT, Account())
    assert set(seg.sources) == {one.uid for one in series.instances[4:]}


def test_a_gap_is_filled_in_where_the_pipeline_says_so(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int16)[:, None, None] * np.full((6, 5, 6), 10, np.int16)
    made = images(array, affine())
    series = keep([one for index, one in enumerate(made) if index != 2], tmp_path)
    account = Account()
    volume = read_volume(series, account, missing_slice="interpolate")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.source is None
    assert account.notes[0].startswith("missing slice: 1 between image 2 and image 4")
    assert len(account.used) == 5


def test_a_mask_of_a_straightened_volume_goes_back_to_the_tilted_images(shared_data: Path) -> None:
    """What is marked in the images, brought onto the volume and back, is marked in the images."""
    series = read(shared_data / "dicom_variants" / "dicom2nifti" / "failing_gantrytilting_001")
    account = Account()
    volume = read_volume(series, account, gantry_tilt="resample")
    assert account.notes[0].startswith("gantry tilt of 14.00° taken out")
    source = volume.source
    assert source is not None
    assert (source.shape, source.planes) == ((4, 512, 512), ())
    middle = (source.affine @ [1.5, 200, 300, 1])[:3]
    marked = ball(volume.affine, volume.array.shape, middle)
    mask = Mask(marked, volume.affine, (LESION,), volume.frame_of_reference, source=source)
    back = to_source(mask, Account())
    np.testing.assert_array_equal(back.affine, source.affine)
    truth = ball(source.affine, source.shape, middle)
    assert 2 * (truth & back.array).sum() / (truth.sum() + back.array.sum()) > 0.99
    seg = write_seg(back, series, CONTEXT, Account())
    assert set(seg.sources) == {one.uid for one in series}


def ball(grid: NDArray[np.float64], shape: tuple[int, ...], middle: Any) -> NDArray[np.uint8]:
    """Mark what lies within 30 mm of a place in the patient."""
    place = np.moveaxis(np.indices(shape), 0, -1) @ grid[:3, :3].T + grid[:3, 3]
    return np.asarray(np.linalg.norm(place - middle, axis=-1) < 30, np.uint8)


@pytest.mark.parametrize(
    ("setting", "value", "faults"),
    [
        ("split", {"by": "EchoTime"}, 0),
        ("split", [{"by": "EchoTime", "number": 2}, {"by": "ImageType", "value": "P"}], 0),
        ("gantry_tilt", "resample", 0),
        ("gantry_tilt", "ignore", 1),
        ("split", {"by": "EchoTyme"}, 1),
    ],
)
def test_settings_are_checked_when_the_site_is_loaded(
    setting: str, value: Any, faults: int
) -> None:
    annotation = signature("read_volume", read_volume).settings[setting]
    assert bool(list(check_value((), annotation, value))) == bool(faults)


def test_a_source_says_no_planes_where_all_were_read() -> None:
    assert Source((1, 1, 1), np.eye(4)).planes == ()
