from __future__ import annotations

import builtins
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from overread.dicom.interpolation import bring
from overread.dicom.volume import Mask, Volume
from overread.errors import Refused, StepFailed
from overread.operators.grid import pad, to_source
from overread.operators.register import register
from overread.pipelines.ports import Account
from tests.dicom.series import LESION, affine

pytest.importorskip("SimpleITK", reason="the extra `register` is not installed")

GRID = affine((3.0, 1.5, 1.5), origin=(-45, -50, -35))
SHAPE = (24, 64, 60)


def rigid(angles: Any, shift: Any) -> NDArray[np.float64]:
    made = np.eye(4)
    made[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    made[:3, 3] = shift
    return made


MOVED = rigid((4, -3, 6), (6, -5, 4))
"""LPS mm of the fixed volume to the moving one's."""


@cache
def phantom() -> Volume:
    """A head of sorts: nothing in it is symmetric."""
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    x, y, z = (index @ GRID[:3, :3].T + GRID[:3, 3]).transpose(3, 0, 1, 2)
    head = (x / 34) ** 2 + (y / 40) ** 2 + (z / 28) ** 2
    values = np.where(head < 1, 100.0, 0) + np.where((head > 0.8) & (head < 1), 150, 0)
    for cx, cy, cz, radius, value in (
        (12, -10, 5, 9, 80),
        (-14, 8, -6, 6, -60),
        (4, 20, 10, 7, 50),
    ):
        near = (x - cx) ** 2 + (y - cy) ** 2 + (1.3 * (z - cz)) ** 2 < radius**2
        values += np.where(near, value, 0)
    noise = np.random.default_rng(0).normal(0, 4, SHAPE)
    array = ndimage.gaussian_filter(values, (0.5, 1, 1)) + noise
    return Volume(array.astype(np.float32), GRID, "1.2", modality="MR")


def moved(by: NDArray[np.float64], grid: Any = None, shape: Any = SHAPE) -> Volume:
    """The phantom as another exam sees it: what lies at p there lies at ``by @ p`` here."""
    grid = affine((2.5, 1.4, 1.6), (3, 2, -4), (-44, -52, -30)) if grid is None else grid
    across = np.linalg.inv(GRID) @ np.linalg.inv(by) @ grid
    array = bring(phantom().array, across, shape, linear=True)
    return Volume(array * 1.7 + 20, grid, "3.4", modality="MR")


def off(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Greatest distance in mm, over the corners of a box as large as the phantom."""
    corners = np.array([[x, y, z, 1] for x in (-30, 30) for y in (-35, 35) for z in (-24, 24)])
    return float(np.linalg.norm(((found - truth) @ corners.T)[:3], axis=0).max())


@cache
def registered(kind: Any = "rigid") -> tuple[Volume, Account]:
    account = Account()
    return register(moved(MOVED), phantom(), account, kind=kind), account


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_known_transformation_is_found(kind: Any) -> None:
    found, account = registered(kind)
    assert found.source is not None
    assert off(found.source.back, MOVED) < (1.0 if kind == "rigid" else 2.0)
    np.testing.assert_array_equal(found.affine, GRID)
    assert found.array.shape == SHAPE
    assert (found.frame_of_reference, found.source.frame_of_reference) == ("1.2", "3.4")
    inner = (slice(6, -6), slice(15, -15), slice(15, -15))
    likeness = np.corrcoef(found.array[inner].ravel(), phantom().array[inner].ravel())[0, 1]
    assert likeness > 0.9
    assert f"{kind}, from" in account.notes[0]
    assert "mutual information" in account.notes[0]
    assert "LPS mm of the fixed volume to the moving one's: [" in account.notes[1]


def test_a_mask_finds_its_way_back_onto_the_moving_volume_s_images() -> None:
    found, _ = registered()
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:16, 20:40, 18:36] = 1
    mask = Mask(labels, found.affine, (LESION,), found.frame_of_reference, source=found.source)
    back = to_source(mask, Account())
    moving = moved(MOVED)
    np.testing.assert_array_equal(back.affine, moving.affine)
    assert (back.array.shape, back.frame_of_reference) == (moving.array.shape, "3.4")
    truth = bring(labels, np.linalg.inv(GRID) @ np.linalg.inv(MOVED) @ moving.affine, SHAPE) > 0
    both = back.array.sum() + truth.sum()
    assert 2 * (back.array & truth).sum() / both > 0.93


def test_the_way_back_holds_both_ways_that_were_gone() -> None:
    """Registered to one exam and from there to another: one step leads back through both."""
    first, _ = registered()
    again = rigid((0, 0, -8), (3, 2, -2))
    other = moved(again, GRID)
    second = register(first, replace(other, frame_of_reference="5.6"), Account())
    assert second.source is not None
    # What lies at p in the last exam lies at inverse(again) @ p in the one between.
    assert off(second.source.back, MOVED @ np.linalg.inv(again)) < 1.5


def test_the_same_volumes_give_the_same_result() -> None:
    found, account = registered()
    once_more = Account()
    again = register(moved(MOVED), phantom(), once_more)
    np.testing.assert_array_equal(again.array, found.array)
    assert once_more == account


def test_what_lies_right_already_stays() -> None:
    volume = phantom()
    found = register(volume, volume, Account())
    assert found.source is not None
    assert off(found.source.back, np.eye(4)) < 0.3


def test_what_the_chain_did_before_is_undone_too() -> None:
    padded = pad(moved(MOVED), Account(), multiple=16)
    found = register(padded, phantom(), Account())
    assert found.source is not None
    assert found.source.shape == SHAPE
    assert off(found.source.back, MOVED) < 1.0


def test_volumes_that_tell_nothing_of_each_other_are_refused() -> None:
    noise = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    with pytest.raises(Refused, match=r"the registration failed: mutual information .* expected"):
        register(Volume(noise, GRID), phantom(), Account())


def test_without_simpleitk_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "SimpleITK":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(StepFailed, match=r"pip install overread\[register\]"):
        register(phantom(), phantom(), Account())


def test_a_real_follow_up_to_its_baseline(shared_data: Path) -> None:
    grid = affine((6.5, 0.86, 0.86))
    arrays = []
    for time in ("Pre", "Post"):
        image: Any = nibabel.load(shared_data / "brain_tumour" / "03" / f"{time}_Scan_T1.nii.gz")
        arrays.append(np.asarray(image.dataobj).transpose(2, 1, 0)[1:-1].astype(np.float32))
    before, after = (Volume(array, grid, modality="MR") for array in arrays)
    account = Account()
    found = register(after, before, account)
    assert found.source is not None
    # The upstream set is co-registered within a centimetre; it must not be torn away.
    assert off(found.source.back, np.eye(4)) < 12
    given, start, better = map(float, re.findall(r"\d\.\d{4}", account.notes[0]))
    assert given <= start < better
