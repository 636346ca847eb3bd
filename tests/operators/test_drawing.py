"""What is drawn lies where it should, in the colours that it should, and reads the right way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from overread.operators import drawing
from overread.operators.drawing import Line, Mark, Words

RED = (255, 80, 80)


@pytest.mark.parametrize(
    ("down", "along", "turned", "letters"),
    [
        ((0, 1, 0), (1, 0, 0), (1, 1), ("R", "L")),  # axial, as stored by scanners
        ((0, -1, 0), (-1, 0, 0), (-1, -1), ("R", "L")),  # axial, after reorientation to RAS
        ((0, 0, -1), (1, 0, 0), (1, 1), ("R", "L")),  # coronal
        ((0, 0, 1), (-1, 0, 0), (-1, -1), ("R", "L")),
        ((0, 0, -1), (0, 1, 0), (1, 1), ("A", "P")),  # sagittal
        ((0, 0, 1), (0, -1, 0), (-1, -1), ("A", "P")),
        ((0.1, 0.9, -0.2), (0.95, -0.1, 0.1), (1, 1), ("R", "L")),  # oblique
    ],
)
def test_planes_are_turned_to_the_usual_view(
    down: Any, along: Any, turned: tuple[int, int], letters: tuple[str, str]
) -> None:
    affine = np.eye(4)
    affine[:3, 1], affine[:3, 2] = down, along
    rows, columns = drawing.upright(affine)
    assert (rows.step, columns.step) == turned
    assert drawing.sides(affine) == letters


@pytest.mark.parametrize(
    ("shape", "aspect", "size"),
    [((100, 200), 1.0, (800, 400)), ((100, 100), 2.0, (400, 800))],
)
def test_a_picture_shows_square_pixels(
    shape: tuple[int, int], aspect: float, size: tuple[int, int]
) -> None:
    assert drawing.fit(shape, aspect, 800) == size


def test_values_become_grey_between_their_limits() -> None:
    grey = drawing.grey(np.array([[-5.0, 0, 50, 100, 400]]), 0, 100)
    assert grey.tolist() == [[0, 0, 128, 255, 255]]
    assert drawing.grey(np.zeros((2, 2)), 0, 0).tolist() == [[0, 0], [0, 0]]


def test_a_segment_has_its_contour_on_its_edge() -> None:
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    picture = drawing.paint_segment(Image.new("RGB", (512, 512), (100, 100, 100)), inside, RED)
    pixels = np.asarray(picture)
    on_edge = (pixels == RED).all(axis=-1)
    y, x = np.nonzero(on_edge)
    assert (y.min(), y.max(), x.min(), x.max()) == pytest.approx((128, 383, 128, 383), abs=3)
    assert not on_edge[200:300, 200:300].any()
    assert pixels[256, 256, 0] > pixels[256, 256, 1]  # tinted, and still seen through
    assert (pixels[60, 60] == 100).all()


def test_a_box_is_drawn_where_it_is_with_its_words_above() -> None:
    picture = Image.new("RGB", (400, 200), (90, 90, 90))
    drawing.paint_marks(picture, [Mark((20, 40, 60, 80), "Left hip 0.97", RED)], (100, 200), 12)
    pixels = np.asarray(picture)
    is_red = (pixels == RED).all(axis=-1)
    assert is_red[80:160, 40].all()
    assert is_red[80, 40:120].all()
    assert is_red[159, 40:119].all()
    assert is_red[60:78].any(), "no words above the box"
    assert not is_red[100:140, 60:100].any()


def test_words_stay_in_a_picture_that_leaves_no_room_above() -> None:
    picture = Image.new("RGB", (300, 300), (90, 90, 90))
    drawing.paint_marks(picture, [Mark((90, 0, 100, 50), "A long name 0.50", RED)], (100, 100), 14)
    assert (np.asarray(picture)[4:30] == RED).all(axis=-1).sum() > 100


@pytest.mark.parametrize(("mm", "length"), [(0.5, 50), (0.1, 10), (4.0, 200), (0.001, 0)])
def test_a_scale_bar_has_a_round_length(mm: float, length: int) -> None:
    picture = Image.new("RGB", (400, 400), (0, 0, 120))
    drawing.paint_bar(picture, mm, 16)
    white = (np.asarray(picture) == drawing.TEXT).all(axis=-1)
    if not length:
        assert not white.any()
        return
    row = white[round(400 - 16 * 0.7)]
    assert row.sum() * mm == pytest.approx(length, rel=0.05)


def test_sides_are_written_in_both_upper_corners() -> None:
    picture = Image.new("RGB", (300, 200))
    drawing.paint_sides(picture, ("R", "L"), 14)
    white = (np.asarray(picture) == drawing.TEXT).all(axis=-1)
    assert white[:30, :40].any()
    assert white[:30, -40:].any()
    assert not white[:, 60:-60].any()


def test_the_bands_hold_the_words_and_the_picture_is_whole() -> None:
    picture = Image.new("RGB", (200, 100), (0, 200, 0))
    words = Words("AI · investigational", "slice 3 of 9", (Line("Liver 900 mL", RED),), "Model a@1")
    sheet = drawing.compose(picture, (300, 160), words, 1, 10)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1:] == (300, 3)
    assert ((sheet == (0, 200, 0)).all(axis=-1)).sum() == 200 * 100
    assert (sheet[:20] == drawing.AMBER).all(axis=-1).any()
    assert (sheet[180:] == RED).all(axis=-1).sum() >= 64
    longer = Words("AI", "", (Line("word " * 80),), "x" * 300)
    assert drawing.compose(picture, (300, 160), longer, 1, 10).shape == sheet.shape


def test_letters_that_the_font_lacks_are_seen_to_be_missing() -> None:
    assert drawing.shown_as("Größe 12 mm² 肝") == "Größe 12 mm² ?"
