from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from overread.dicom import pixels
from overread.dicom.pixels import kind_of, read_frames, transformation, write_values
from overread.dicom.planes import planes
from overread.dicom.study import Instance, Series
from overread.errors import Refused
from tests.dicom.series import affine, images, read

VALUES = np.random.default_rng(2).integers(-2000, 2000, (1, 7, 9)).astype(np.int16)


def kept(file: Path, edit: Callable[[Dataset], object], syntax: str) -> Instance:
    (one,) = images(VALUES, affine())
    edit(one)
    one.file_meta.TransferSyntaxUID = UID(syntax)
    one.save_as(file, enforce_file_format=True)
    return Instance(dcmread(file, stop_before_pixels=True), file)


def stored(kind: str, **values: Any) -> Callable[[Dataset], object]:
    """An edit that stores the values as another type."""

    def edit(one: Dataset) -> None:
        array = VALUES[0].astype(kind)
        one.PixelData = array.tobytes() + b"\0" * (array.nbytes % 2)
        bits = array.itemsize * 8
        one.BitsAllocated, one.BitsStored, one.HighBit = bits, bits, bits - 1
        one.PixelRepresentation = int(array.dtype.kind == "i")
        one["PixelData"].VR = "OW" if bits > 8 else "OB"
        for keyword, value in values.items():
            setattr(one, keyword, value)

    return edit


LITTLE = [
    (ImplicitVRLittleEndian, True),
    (ExplicitVRLittleEndian, True),
    (DeflatedExplicitVRLittleEndian, False),
]


@pytest.mark.parametrize("kind", ["<i2", "<u2", "<i4", "<u4", "u1", "i1"])
@pytest.mark.parametrize(("syntax", "fast"), LITTLE)
def test_every_integer_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, syntax: str, fast: bool
) -> None:
    image = kept(tmp_path / "a.dcm", stored(kind), syntax)
    if fast:  # read without pydicom
        monkeypatch.setattr(pixels, "iter_pixels", None)
    (frame,) = read_frames(image, [0])
    assert frame.dtype == np.dtype(kind)
    np.testing.assert_array_equal(frame, VALUES[0].astype(kind))


@pytest.mark.parametrize("kind", ["<i2", "<u2"])
def test_values_may_lie_in_the_upper_bits(tmp_path: Path, kind: str) -> None:
    wanted = (VALUES[0] + 2000 * (kind == "<u2")).astype(kind)

    def edit(one: Dataset, *, last: bool = True) -> None:
        stored(kind, BitsStored=12, HighBit=15)(one)
        one.PixelData = ((wanted << 4) | 7).tobytes()
        if not last:
            one.DataSetTrailingPadding = b"\0\0"

    (frame,) = read_frames(kept(tmp_path / "a.dcm", edit, ExplicitVRLittleEndian), [0])
    np.testing.assert_array_equal(frame, wanted)
    slow = kept(tmp_path / "b.dcm", lambda one: edit(one, last=False), ExplicitVRLittleEndian)
    with pytest.raises(Refused, match="HighBit 15 with BitsStored 12"):
        list(read_frames(slow, [0]))


@pytest.mark.parametrize("kind", [">i2", ">u2"])
def test_big_endian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    image = kept(tmp_path / "a.dcm", stored(kind), ExplicitVRBigEndian)
    monkeypatch.setattr(pixels, "iter_pixels", None)
    (frame,) = read_frames(image, [0])
    np.testing.assert_array_equal(frame, VALUES[0].astype(kind))


def test_rle(tmp_path: Path) -> None:
    image = kept(tmp_path / "a.dcm", lambda one: one.compress(RLELossless), RLELossless)
    (frame,) = read_frames(image, [0])
    np.testing.assert_array_equal(frame, VALUES[0])


@pytest.mark.parametrize(("kind", "low"), [("<u2", 0), ("<i2", -2048)])
def test_an_overlay_in_unused_bits_is_no_value(tmp_path: Path, kind: str, low: int) -> None:
    wanted = np.random.default_rng(0).integers(low, low + 4096, (7, 9)).astype(kind)

    def edit(one: Dataset) -> None:
        stored(kind, BitsStored=12, HighBit=11)(one)
        overlay = np.random.default_rng(1).integers(0, 16, (7, 9)).astype("<u2") << 12
        one.PixelData = ((wanted.view("<u2") & 0x0FFF) | overlay).tobytes()

    image = kept(tmp_path / "a.dcm", edit, ExplicitVRLittleEndian)
    (frame,) = read_frames(image, [0])
    np.testing.assert_array_equal(frame, wanted)
    np.testing.assert_array_equal(pixel_array(tmp_path / "a.dcm"), wanted)


def test_what_follows_the_pixels_is_not_taken_for_them(tmp_path: Path) -> None:
    image = kept(
        tmp_path / "a.dcm",
        lambda one: one.add_new(0xFFFCFFFC, "OB", b"\0" * 64),
        ExplicitVRLittleEndian,
    )
    (frame,) = read_frames(image, [0])
    np.testing.assert_array_equal(frame, VALUES[0])


def test_floating_point_pixels(tmp_path: Path) -> None:
    wanted = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)

    def edit(one: Dataset) -> None:
        del one.PixelData
        one.BitsAllocated = 32
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            del one[keyword]
        one.FloatPixelData = wanted.tobytes()

    image = kept(tmp_path / "a.dcm", edit, ExplicitVRLittleEndian)
    (frame,) = read_frames(image, [0])
    np.testing.assert_array_equal(frame, wanted)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (stored("<i2", PhotometricInterpretation="PALETTE COLOR"), "in colour .PALETTE COLOR."),
        (stored("<i2", SamplesPerPixel=3, PhotometricInterpretation="RGB"), "in colour"),
        (stored("<i2", Modality="SEG"), "is a segmentation"),
        (lambda one: one.pop("PixelData"), "its pixels cannot be read"),
        (lambda one: setattr(one, "PixelData", one.PixelData[:-2]), "its pixels cannot be read"),
        (stored("<i2", BitsAllocated=13), "its pixels cannot be read"),
        (lambda one: one.pop("Rows"), "its pixels cannot be read"),
    ],
)
def test_what_is_no_grey_image_is_refused(
    tmp_path: Path, edit: Callable[[Dataset], object], message: str
) -> None:
    image = kept(tmp_path / "a.dcm", edit, ExplicitVRLittleEndian)
    with pytest.raises(Refused, match=f"{image.uid}.*{message}"):
        list(read_frames(image, [0]))


def test_a_file_that_is_gone_is_no_fault_of_the_exam(tmp_path: Path) -> None:
    image = kept(tmp_path / "a.dcm", stored("<i2"), ExplicitVRLittleEndian)
    (tmp_path / "a.dcm").unlink()
    with pytest.raises(FileNotFoundError):
        list(read_frames(image, [0]))


# What the values mean --------------------------------------------------------------------------


def with_lut(one: Dataset) -> None:
    stored("<u2")(one)
    one.PixelData = (np.arange(63) % 6).astype("<u2").tobytes()
    lut = Dataset()
    lut.LUTDescriptor = [4, 1, 16]
    lut.add_new("LUTData", "US", [10, 20, 40, 80])
    lut.ModalityLUTType = "OD"
    one.ModalityLUTSequence = [lut]


def values(image: Instance) -> NDArray[np.float32]:
    (plane,) = planes(Series((image,)))
    (frame,) = read_frames(image, [plane.frame])
    into = np.empty(frame.shape, np.float32)
    write_values(plane, frame, into)
    return into


def test_a_modality_lut_is_applied(tmp_path: Path) -> None:
    image = kept(tmp_path / "a.dcm", with_lut, ExplicitVRLittleEndian)
    assert values(image).ravel()[:6].tolist() == [10, 10, 20, 40, 80, 80]
    (plane,) = planes(Series((image,)))
    assert kind_of(plane) == "OD"


def test_a_modality_lut_without_data_is_refused(tmp_path: Path) -> None:
    def edit(one: Dataset) -> None:
        with_lut(one)
        del one.ModalityLUTSequence[0].LUTData

    with pytest.raises(Refused, match="ModalityLUTSequence that cannot be read"):
        values(kept(tmp_path / "a.dcm", edit, ExplicitVRLittleEndian))


def test_each_frame_has_its_own_transformation(shared_data: Path) -> None:
    folder = shared_data / "dicom_variants" / "dicom2nifti"
    (image,) = read(folder / "philips_enhanced_anatomical_001")
    slopes = [float(transformation(plane).RescaleSlope) for plane in planes(Series((image,)))]
    assert slopes == pytest.approx([4.258852] * 8)
