from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_windowing

from overread.dicom.rendering import Voi, render, windowed
from overread.dicom.study import Instance
from overread.errors import Refused
from tests.dicom.radiograph import radiograph, table

RAMP = np.arange(16, dtype=np.uint16).reshape(4, 4) * 100


def shown(instance: Instance, voi: Voi = "none") -> Any:
    (frame,) = render(instance, [0], voi)
    assert frame.array.dtype == np.float32
    return frame.array


def test_values_are_rescaled(tmp_path: Path) -> None:
    one = radiograph(tmp_path, RAMP, RescaleSlope="2", RescaleIntercept="-10", BitsStored=12)
    np.testing.assert_allclose(shown(one), RAMP * 2.0 - 10)


@pytest.mark.parametrize(
    ("bits", "kind", "total"), [(12, np.uint16, 4095), (16, np.int16, -1), (8, np.uint8, 255)]
)
def test_monochrome1_is_turned_over_within_what_can_be_stored(
    tmp_path: Path, bits: int, kind: Any, total: int
) -> None:
    pixels = np.arange(16).reshape(4, 4).astype(kind)
    one = radiograph(tmp_path, pixels, PhotometricInterpretation="MONOCHROME1", BitsStored=bits)
    np.testing.assert_allclose(shown(one), total - pixels.astype(float))
    turned = shown(one, "window")
    assert turned.argmax() == pixels.argmin()
    assert 0 <= turned.min() <= turned.max() <= 1


def test_the_first_window_is_applied(tmp_path: Path) -> None:
    window: dict[str, Any] = {"WindowCenter": [800, 0], "WindowWidth": [401, 9]}
    one = radiograph(tmp_path, RAMP, **window)
    (frame,) = render(one, [0], "window")
    np.testing.assert_allclose(frame.array, np.clip((RAMP - 799.5) / 400 + 0.5, 0, 1), atol=1e-6)
    assert frame.notes == ("window 800, 401 (LINEAR) applied",)
    inverted = radiograph(tmp_path, RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    np.testing.assert_allclose(shown(inverted, "window"), 1 - frame.array, atol=1e-6)


def test_without_a_window_the_whole_range_is_used_and_told(tmp_path: Path) -> None:
    one = radiograph(tmp_path, RAMP, BitsStored=12)
    (frame,) = render(one, [0], "lut")
    np.testing.assert_allclose(frame.array, RAMP / 4095, rtol=1e-6)
    assert frame.notes == ("no window: the whole range of stored values is used",)


def test_lookup_tables(tmp_path: Path) -> None:
    modality = table(0, 16, [10 * value for value in range(16)], ModalityLUTType="OD")
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4)
    one = radiograph(tmp_path, pixels, ModalityLUTSequence=[modality])
    np.testing.assert_allclose(shown(one), pixels * 10.0)
    # an 8-bit table of more than 256 entries, after a modality LUT; what lies outside keeps its end
    voi = table(20, 8, [*range(256), *[255] * 100])
    one = radiograph(tmp_path, pixels, ModalityLUTSequence=[modality], VOILUTSequence=[voi])
    expected = np.clip(pixels * 10.0 - 20, 0, 255) / 255
    np.testing.assert_allclose(shown(one, "lut"), expected, atol=1e-6)
    negative = table(-5, 10, [0, 1023])
    one = radiograph(
        tmp_path, pixels, RescaleSlope="1", RescaleIntercept="-12", VOILUTSequence=[negative]
    )
    np.testing.assert_allclose(shown(one, "lut"), (pixels - 12.0 >= -4).astype(float))


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    short = table(0, 16, [1, 2, 3])
    short.LUTDescriptor = [400, 0, 16]
    one = radiograph(tmp_path, RAMP, VOILUTSequence=[short])
    with pytest.raises(
        Refused, match=r"1\.2\.3\.1: its lookup tables .* 3 entries; 400 were expected"
    ):
        shown(one, "lut")
    one = radiograph(tmp_path, RAMP, WindowCenter=1, WindowWidth=0)
    with pytest.raises(Refused, match="WindowWidth is 0; more than 0"):
        shown(one, "window")


def test_padding_is_darkest(tmp_path: Path) -> None:
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        one = radiograph(tmp_path, RAMP, PixelPaddingValue=1500, PhotometricInterpretation=kind)
        array = shown(one)
        assert array[3, 3] == np.sort(array.ravel())[1]  # as dark as the darkest of the others
    one = radiograph(tmp_path, RAMP, PixelPaddingValue=1300, PixelPaddingRangeLimit=1500)
    assert (shown(one).ravel()[13:] == 0).all()


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    colours = np.zeros((2, 1, 4, 3), np.uint8)
    colours[0, 0] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [100, 100, 100]]
    one = radiograph(tmp_path, colours)
    first, second = render(one, [0, 1], "none")
    np.testing.assert_allclose(first.array, [[76.245, 149.685, 29.07, 100]], rtol=1e-5)
    assert not second.array.any()
    assert first.notes == ("luminance of RGB",)
    np.testing.assert_allclose(shown(one, "window"), first.array / 255, rtol=1e-5)
    full = radiograph(tmp_path, colours, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(shown(full)[0, 3], 100, atol=60)  # a colour, whatever it is


def test_a_palette(tmp_path: Path) -> None:
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR", "BitsStored": 8}
    for colour, scale in (("Red", 1), ("Green", 2), ("Blue", 3)):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        data = np.array([0, 1000, 5000, 20000], "<u2") * scale
        palette[f"{colour}PaletteColorLookupTableData"] = data.astype("<u2").tobytes()
    one = radiograph(tmp_path, np.array([[0, 1], [2, 3]], np.uint8), **palette)
    weight = 0.299 + 2 * 0.587 + 3 * 0.114
    expected = np.array([[0, 1000], [5000, 20000]]) * weight / 65535 * 255
    np.testing.assert_allclose(shown(one), expected, rtol=1e-4)


@given(
    st.floats(-500, 500),
    st.floats(2, 2000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_are_as_pydicom_has_them(centre: float, width: float, function: str) -> None:
    values = np.arange(-1000, 1000, 7)
    header = Dataset()
    header.PhotometricInterpretation, header.BitsStored = "MONOCHROME2", 12
    header.PixelRepresentation = 0
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = centre, width, function
    expected = apply_windowing(values, header) / 4095
    np.testing.assert_allclose(
        windowed(
            values.astype(float), float(header.WindowCenter), float(header.WindowWidth), function
        ),
        expected,
        atol=1e-3,
    )


def test_a_window_of_one_is_a_threshold() -> None:
    assert windowed(np.array([9.0, 10.0, 11.0]), 10, 1).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="LINEAR, LINEAR_EXACT or SIGMOID"):
        windowed(np.zeros(1), 1, 1, "CUBIC")


def test_what_has_no_pixels_is_named() -> None:
    report = Dataset()
    report.SOPInstanceUID, report.Modality = "1.5", "SR"
    with pytest.raises(Refused, match=r"object 1\.5 \(SR\) has no pixels"):
        list(render(Instance(report), [0], "none"))


def test_real_ones(shared_data: Path) -> None:
    """JPEG 2000 in colour, and an enhanced CT with a palette beside its grey values."""
    file = sorted((shared_data / "hip_xray" / "dicoms").rglob("*.dcm"))[0]
    hip = shown(Instance(dcmread(file, stop_before_pixels=True), file))
    stored = dcmread(file).pixel_array.astype(float)
    np.testing.assert_allclose(hip, stored @ [0.299, 0.587, 0.114], atol=1e-3)
    assert 20 < hip.mean() < 200
