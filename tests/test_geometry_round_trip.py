"""What is segmented lies where it should: DICOM → volume → NIfTI → mask → SEG → highdicom."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overread.dicom.match import parse
from overread.dicom.study import Exam, Series
from overread.dicom.volume import Mask, Volume
from overread.operators import files
from overread.operators.measure import measure_volumes
from overread.operators.postprocess import threshold
from overread.operators.read import read_volume
from overread.operators.select import select_series
from overread.operators.write import write_seg
from overread.pipelines.ports import Account, Context
from tests.dicom.series import LESION, affine, ball, images, keep

CONTEXT = Context("job", "seg", datetime(2026, 11, 24, tzinfo=UTC), "bright-spots", "1.0.0")


def through(series: Series, folder: Path) -> tuple[Volume, Mask, highdicom.seg.Segmentation, float]:
    """Send a series the whole way, each step's output through its file."""

    def kept(value: object, name: str) -> object:
        files.save(value, folder / name)
        return files.load(folder / name)

    exam = Exam(series.instances)
    chosen = kept(select_series(exam, Account(), where=parse({"Modality": "MR"})), "series")
    assert isinstance(chosen, Series)
    volume = kept(read_volume(chosen, Account()), "volume")
    assert isinstance(volume, Volume)
    mask = kept(threshold(volume, Account(), above=100.0, segment=LESION), "mask")
    assert isinstance(mask, Mask)
    files.save(write_seg(mask, chosen, CONTEXT, Account()), folder / "seg")
    (measured,) = measure_volumes(mask).items
    return volume, mask, highdicom.seg.segread(folder / "seg" / "object.dcm"), measured.value


def in_patient(inside: NDArray[np.bool_], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the voxels lie: LPS mm, rounded, in an order of their own."""
    places = np.argwhere(inside) @ grid[:3, :3].T + grid[:3, 3]
    places = places.round(2) + 0.0
    return places[np.lexsort(places.T)]


def check(truth: NDArray[np.bool_], grid: NDArray[np.float64], series: Series, to: Path) -> None:
    volume, mask, seg, millilitres = through(series, to)

    # highdicom reads the segmentation by its own means, as a volume with an affine of its own.
    found = seg.get_volume(combine_segments=True, rescale_fractional=False)
    ours, theirs = in_patient(truth, grid), in_patient(found.array > 0, found.affine)
    assert ours.shape == theirs.shape  # with the next line: Dice 1.0
    np.testing.assert_allclose(theirs, ours, atol=0.02)
    exact = truth.sum() * abs(np.linalg.det(grid[:3, :3])) / 1000
    again = (found.array > 0).sum() * abs(np.linalg.det(found.affine[:3, :3])) / 1000
    assert millilitres == pytest.approx(exact, rel=1e-3)
    assert again == pytest.approx(exact, rel=1e-3)

    # And so does nibabel, from the file between steps, in RAS.
    nifti: Any = nibabel.load(to / "mask" / "image.nii")
    places = in_patient(np.asarray(nifti.dataobj) > 0, nifti.affine) * [-1, -1, 1]
    np.testing.assert_allclose(places[np.lexsort(places.T)], ours, atol=0.03)
    np.testing.assert_array_equal(mask.array > 0, volume.array > 100)


def test_an_oblique_anisotropic_reversed_series(tmp_path: Path) -> None:
    shape = (14, 60, 44)
    truth = ball(shape)
    grid = affine((4.4, 0.83, 0.61), (24, -17, 31))
    array = np.where(truth, 400, 30).astype(np.int16)
    series = keep(images(array, grid), tmp_path / "in", order=range(13, -1, -1))
    check(truth, grid, series, tmp_path / "out")


@settings(max_examples=12, deadline=None)
@given(
    turned=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(st.floats(0.5, 8), st.floats(0.3, 3), st.floats(0.3, 3)),
    order=st.permutations(range(5)),
)
def test_any_orientation_spacing_and_order(
    turned: tuple[float, float, float], spacing: tuple[float, float, float], order: list[int]
) -> None:
    shape = (5, 11, 9)
    truth = ball(shape, 0.7)
    grid = affine(spacing, turned)
    array = np.where(truth, 400, 30).astype(np.int16)
    folder = Path(tempfile.mkdtemp())
    try:
        check(truth, grid, keep(images(array, grid), folder / "in", order=order), folder / "out")
    finally:
        shutil.rmtree(folder)
