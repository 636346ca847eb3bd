import numpy as np
import pytest

from overread.simulator.phantoms import SHAPE, SPACING, TIME_POINTS, phantom


def test_the_tumour_grows_and_its_mask_has_its_volume() -> None:
    scans = [phantom(0), phantom(TIME_POINTS - 1)]
    # The slices are thick: the smaller the tumour, the coarser its mask.
    for scan, tolerance in zip(scans, (0.15, 0.04), strict=True):
        counted = float(scan.truth.array.sum()) * scan.truth.voxel_volume / 1000
        assert counted == pytest.approx(scan.millilitres, rel=tolerance)
        assert scan.image.array.shape == scan.truth.array.shape == SHAPE
        assert scan.image.spacing == pytest.approx(SPACING)
    assert scans[1].millilitres > 3 * scans[0].millilitres


def test_the_tumour_stands_out_of_the_brain_and_the_head_of_the_air() -> None:
    scan = phantom(2)
    inside = scan.image.array[scan.truth.array > 0]
    level = 900.0
    assert 1.3 * level < float(np.median(inside)) < 2.6 * level
    assert float(np.median(scan.image.array)) < 0.1 * level
    assert float(np.percentile(scan.image.array[0, :8], 50)) < 0.1 * level


def test_the_same_scan_twice_is_the_same() -> None:
    one, other = phantom(1), phantom(1)
    assert np.array_equal(one.image.array, other.image.array)
    assert one.millilitres == other.millilitres


def test_there_are_six_time_points() -> None:
    with pytest.raises(ValueError, match="not one of 0 to 5"):
        phantom(6)
