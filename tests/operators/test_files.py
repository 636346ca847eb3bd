from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.dicom.image import Image, Images
from overread.dicom.study import Exam, Series
from overread.dicom.volume import Mask, Source, Volume
from overread.operators.files import load, save, to_ras
from overread.operators.write import write_seg
from overread.pipelines.ports import Account
from overread.validation.results import Measurement, Measurements
from tests.dicom.series import LESION, affine, images, keep
from tests.operators.test_write import CONTEXT, mask

GRID = affine((4.4, 0.83, 0.61), (24, -17, 31))


def test_a_volume(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    source = Source((4, 6, 8), affine((5, 1, 1)), "1.2.4", affine(), (("1.2.5", 0), ("1.2.5", 2)))
    volume = Volume(array, GRID, "1.2.3", "[hnsf'U]", "CT", source)
    save(volume, tmp_path)
    back = load(tmp_path)
    assert isinstance(back, Volume)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_array_equal(back.affine, GRID)
    for field in ("frame_of_reference", "unit", "modality"):
        assert getattr(back, field) == getattr(volume, field)
    assert back.source is not None
    for field in ("shape", "frame_of_reference", "planes"):
        assert getattr(back.source, field) == getattr(source, field)
    for field in ("affine", "back"):
        np.testing.assert_array_equal(getattr(back.source, field), getattr(source, field))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_mask(tmp_path: Path, kind: Any) -> None:
    array = np.zeros((3, 5, 7), kind)
    array[1, 2, 3] = 1
    save(Mask(array, GRID, (LESION,), "1.2.3", "a@1.0.0"), tmp_path)
    back = load(tmp_path)
    assert isinstance(back, Mask)
    assert back.array.dtype == kind
    np.testing.assert_array_equal(back.array, array)
    assert (back.segments, back.model) == ((LESION,), "a@1.0.0")


def test_others_open_it_in_place(tmp_path: Path) -> None:
    """Nibabel puts the one voxel where it lies: x and y turned over from LPS to RAS."""
    array = np.zeros((3, 5, 7), np.uint8)
    array[1, 2, 3] = 1
    save(Mask(array, GRID, (LESION,)), tmp_path)
    image: Any = nibabel.load(tmp_path / "image.nii")
    assert image.shape == (7, 5, 3)
    (index,) = np.argwhere(np.asarray(image.dataobj) == 1)
    expected = (GRID @ [1, 2, 3, 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(image.affine @ [*index, 1], [*expected, 1], atol=1e-4)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    assert image.header.get_xyzt_units()[0] == "mm"


@given(st.tuples(*[st.floats(-180, 180)] * 3))
@settings(deadline=None, max_examples=20)
def test_to_ras_keeps_every_place(angles: tuple[float, float, float]) -> None:
    grid = affine((3, 2, 1), angles)
    lps, ras = grid @ [4, 5, 6, 1], to_ras(grid) @ [6, 5, 4, 1]
    np.testing.assert_allclose(ras, lps * [-1, -1, 1, 1], atol=1e-9)


@pytest.mark.parametrize("kind", [Exam, Series])
def test_images_are_named_by_relative_path(tmp_path: Path, kind: Any) -> None:
    source = keep(images(np.zeros((3, 4, 4), np.int16), affine()), tmp_path / "input")
    save(kind(source.instances), tmp_path / "steps" / "t1c")
    named = json.loads((tmp_path / "steps" / "t1c" / "port.json").read_text())
    assert named["instances"][0]["file"] == "../../input/0000.dcm"
    # A work folder that moved as a whole still holds together.
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    back = load(moved / "steps" / "t1c")
    assert isinstance(back, kind)
    assert [one.uid for one in back.instances] == [one.uid for one in source]
    assert back.instances[0].dataset().PixelData


def test_measurements(tmp_path: Path) -> None:
    made = Measurements((Measurement("Tumour", "volume", 1.25, "mL", "counted"),))
    save(made, tmp_path)
    assert load(tmp_path) == made


def test_pictures_come_back_as_they_were(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for image in (
        Image(array, "1.2", 3, (0.2, 0.3), "PixelSpacing", modality="DX", toward=("L", "F")),
        Image(array, "1.2"),
    ):
        save(Images((image,)), tmp_path)
        found = load(tmp_path)
        assert isinstance(found, Images)
        (back,) = found
        np.testing.assert_array_equal(back.array, array)
        assert {**vars(back), "array": 0} == {**vars(image), "array": 0}


def test_an_object(tmp_path: Path) -> None:
    source = keep(images(np.zeros((4, 8, 8), np.int16), affine()), tmp_path / "input")
    made = write_seg(mask(source), source, CONTEXT, Account())
    save(made, tmp_path / "seg")
    back: Any = load(tmp_path / "seg")
    assert back.encode() == made.encode() == (tmp_path / "seg" / "object.dcm").read_bytes()
    assert (back.kind, back.segments, back.sources) == ("segmentation", (LESION,), made.sources)


def test_the_same_value_gives_the_same_bytes(tmp_path: Path) -> None:
    volume = Volume(np.ones((3, 4, 5), np.float32), GRID)
    for folder in ("a", "b"):
        save(volume, tmp_path / folder)
    for name in ("image.nii", "port.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_cannot_be_passed_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a step made a dict"):
        save({}, tmp_path)
    assert not (tmp_path / "port.json").exists()
    (tmp_path / "port.json").write_text('{"type": "Hologram"}')
    with pytest.raises(ValueError, match="'Hologram', which is not known"):
        load(tmp_path)
