from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels.decoders.base import JPEG2000LosslessDecoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from overread.dicom import codecs
from overread.dicom.pixels import FASTEST, read_frames
from overread.dicom.study import Instance
from tests.dicom.series import affine, images


def test_it_is_the_first_choice_for_jpeg_2000_and_for_nothing_else() -> None:
    assert FASTEST[JPEG2000Lossless] == codecs.NAME in JPEG2000LosslessDecoder.available_plugins
    assert not codecs.is_available(ExplicitVRLittleEndian)


@pytest.mark.parametrize(("bits", "signed"), [(16, 1), (16, 0), (12, 1), (12, 0), (8, 0)])
def test_every_kind_of_value_is_decoded(tmp_path: Path, bits: int, signed: int) -> None:
    """Whichever decoder it is, each as pydicom's others decode it."""
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.random.default_rng(0).integers(low, low + 2**bits, (1, 64, 80))
    (one,) = images(np.zeros((1, 64, 80), np.int16), affine())
    one.BitsStored, one.HighBit, one.PixelRepresentation = bits, bits - 1, signed
    one.BitsAllocated = 8 if bits == 8 else 16
    one["PixelData"].VR = "OB" if bits == 8 else "OW"
    one.PixelData = values.astype(f"{'i' if signed else 'u'}{one.BitsAllocated // 8}").tobytes()
    one.compress(JPEG2000Lossless, generate_instance_uid=False)
    file = tmp_path / "a.dcm"
    one.save_as(file, enforce_file_format=True)
    (frame,) = read_frames(Instance(dcmread(file, stop_before_pixels=True), file), [0])
    np.testing.assert_array_equal(frame, values[0])
    np.testing.assert_array_equal(frame, pixel_array(file, decoding_plugin="pylibjpeg"))


def test_another_decoder_takes_over_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    def fail(*_: Any) -> bytes:
        raise RuntimeError("no")

    file = next((shared_data / "ct_liver" / "dicom").glob("*.dcm"))
    image = Instance(dcmread(file, stop_before_pixels=True), file)
    (expected,) = read_frames(image, [0])
    decoder = JPEG2000LosslessDecoder
    monkeypatch.setitem(decoder._available, FASTEST[JPEG2000Lossless], fail)
    (frame,) = read_frames(image, [0])
    np.testing.assert_array_equal(frame, expected)
