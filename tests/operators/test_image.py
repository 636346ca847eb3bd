from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from overread.dicom.image import Images
from overread.dicom.study import Exam, Instance
from overread.errors import Refused
from overread.operators import files
from overread.operators.image import read_image
from overread.pipelines.ports import Account
from tests.dicom.radiograph import radiograph

PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4)


class Told:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def __call__(self, done: int, of: int, what: str) -> None:
        self.steps.append((done, of))


def read(*instances: Instance, account: Account | None = None, **settings: Any) -> Images:
    return read_image(Exam(instances), account or Account(), Told(), **settings)


def test_what_an_image_says_of_itself_goes_with_it(tmp_path: Path) -> None:
    one = radiograph(
        tmp_path,
        PIXELS,
        ImagerPixelSpacing=[0.2, 0.2],
        EstimatedRadiographicMagnificationFactor=1.25,
        BodyPartExamined="PELVIS",
        ViewPosition="AP",
        ImageLaterality="U",
    )
    account, told = Account(), Told()
    (image,) = read_image(Exam((one,)), account, told)
    assert (image.uid, image.frame, image.modality) == ("1.2.3.1", 0, "DX")
    assert image.spacing == pytest.approx((0.16, 0.16))
    assert "at the estimated magnification" in image.spacing_from
    assert (image.body_part, image.view, image.laterality) == ("PELVIS", "AP", "U")
    ((uid, why),) = account.used
    assert uid == "1.2.3.1"
    assert why.startswith("3 × 4, pixels of 0.16 × 0.16 mm by ImagerPixelSpacing / 1.25")
    assert told.steps == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("settings", "frames"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"frames": "first"}, [0]),
        ({"frames": "middle"}, [2]),
        ({"every": 2}, [0, 2, 4]),
    ],
)
def test_frames_of_a_cine_loop(tmp_path: Path, settings: Any, frames: list[int]) -> None:
    loop = np.stack([PIXELS.astype(np.uint8) + 10 * frame for frame in range(5)])
    found = read(radiograph(tmp_path, loop), **settings)
    assert [image.frame for image in found] == frames
    assert [float(image.array[0, 0]) for image in found] == [10.0 * frame for frame in frames]


def test_images_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    good = radiograph(tmp_path, PIXELS)
    cut = radiograph(tmp_path, PIXELS, "1.2.3.2")
    assert cut.file is not None
    cut.file.write_bytes(cut.file.read_bytes()[:-9])
    strange = radiograph(tmp_path, PIXELS, "1.2.3.3")
    strange.header.NumberOfFrames = "-1"
    with pytest.raises(Refused) as told:
        read(good, cut, strange)
    assert "2 of 3 images cannot be read" in str(told.value)
    assert "image 2 of series 1: image 1.2.3.2: its pixels cannot be read" in str(told.value)
    assert "image 3 of series 1: its NumberOfFrames is '-1'" in str(told.value)
    account = Account()
    assert len(read(good, cut, strange, account=account, unreadable="skip")) == 1
    assert [uid for uid, _ in account.unused] == ["1.2.3.2", "1.2.3.3"]
    with pytest.raises(Refused, match="2 of 2 images"):
        read(cut, strange, unreadable="skip")
    with pytest.raises(Refused, match="there is no image to read"):
        read()


def test_all_real_radiographs_are_read_and_kept(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "hip_xray" / "dicoms").rglob("*.dcm"))
    hips = [Instance(dcmread(one, stop_before_pixels=True), one) for one in paths]
    account = Account()
    found = read(*hips, account=account)
    assert len(found) == len(paths) == 10
    assert {image.array.shape for image in found} == {(331, 331)}
    assert all(image.array.std() > 10 for image in found)
    assert len(account.used) == 10
    files.save(found, tmp_path / "images")
    again = files.load(tmp_path / "images")
    assert isinstance(again, Images)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.array, other.array)
        assert (one.spacing, one.aspect, one.spacing_from) == (
            other.spacing,
            other.aspect,
            other.spacing_from,
        )


def test_single_slices_are_read_and_a_mosaic_is_named(shared_data: Path) -> None:
    variants = shared_data / "dicom_variants"
    files_ = [*sorted((variants / "dcmqi_ct_3slice_seg").glob("0*.dcm")), variants / "pydicom"
              / "MR-SIEMENS-DICOM-WithOverlays.dcm"]  # fmt: skip
    for file in files_:
        instance = Instance(dcmread(file, stop_before_pixels=True), file)
        (image,) = read(instance)
        assert image.array.shape == (int(instance.header.Rows), int(instance.header.Columns))
        assert image.spacing == pytest.approx(tuple(map(float, instance.header.PixelSpacing)))
    mosaic = variants / "transfer_syntaxes" / "1.dcm"
    with pytest.raises(Refused, match="is a mosaic"):
        read(Instance(dcmread(mosaic, stop_before_pixels=True), mosaic))
    segmentation = variants / "dcmqi_ct_3slice_seg" / "liver.dcm"
    with pytest.raises(Refused, match="is a segmentation"):
        read(Instance(dcmread(segmentation, stop_before_pixels=True), segmentation))
