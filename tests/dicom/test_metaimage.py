from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread.dicom.metaimage import save_mhd
from overread.dicom.volume import Mask, Volume
from tests.dicom.series import LESION, affine

GRID = affine((4.4, 0.83, 0.61), (24, -17, 31))


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, np.uint16])
def test_itk_reads_the_same_voxels_in_the_same_place(tmp_path: Path, kind: Any) -> None:
    itk: Any = pytest.importorskip("SimpleITK")
    array = np.random.default_rng(0).integers(0, 2, (3, 5, 7)).astype(kind)
    made = (
        Mask(array, GRID, (LESION,)) if np.issubdtype(kind, np.unsignedinteger)
        else Volume(array, GRID)
    )  # fmt: skip
    save_mhd(made, tmp_path / "a.mhd")
    image = itk.ReadImage(str(tmp_path / "a.mhd"))
    found = itk.GetArrayFromImage(image)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, array)
    for index in [(0, 0, 0), (2, 4, 6), (1, 0, 3)]:
        place = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(place, (GRID @ [*index, 1])[:3], atol=1e-9)


def test_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="voxels of float64"):
        save_mhd(Volume(np.zeros((2, 2, 2)), GRID), tmp_path / "a.mhd")
    with pytest.raises(ValueError, match=r"a\.nii"):
        save_mhd(Volume(np.zeros((2, 2, 2), np.int16), GRID), tmp_path / "a.nii")
