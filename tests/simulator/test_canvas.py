"""What is drawn lies where it was said to lie."""

import numpy as np
import pytest

from overread.simulator.canvas import Canvas, edge


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(np.array((200.0, 240.0)), 1.0, 1.0, np.random.default_rng(1))


def test_a_balls_thickness_is_its_chord(canvas: Canvas) -> None:
    ball = canvas.ball((10, -20), 30, weight=1.0)
    assert ball.max() == pytest.approx(30, abs=0.1)
    # Half the volume of a ball, as thickness counts from its middle.
    assert float(ball.sum()) == pytest.approx(2 / 3 * np.pi * 30**3, rel=0.01)


def test_a_cut_rod_ends_where_it_was_cut(canvas: Canvas) -> None:
    rod = canvas.rod((0, -40), (0, 40), 10, 10, hollow=0, cut=(True, True))
    beyond = np.abs(canvas.y) > 42
    assert rod[beyond].max() < 0.01 * rod.max()
    round_ends = canvas.rod((0, -40), (0, 40), 10, 10, hollow=0)
    assert round_ends[beyond].max() > 0.5 * round_ends.max()


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_a_box_bounds_what_was_drawn(canvas: Canvas, spacing: float) -> None:
    shown = canvas.ball((25, 10), 20) > 0
    rows, columns = np.nonzero(shown)
    corners = np.array(
        [(25 + 20 * np.cos(a), 10 + 20 * np.sin(a)) for a in np.linspace(0, 6.3, 64)]
    )
    wanted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert canvas.box(corners, spacing) == pytest.approx(
        np.array(wanted) / spacing, abs=1 / spacing
    )


def test_a_box_does_not_reach_out_of_the_picture(canvas: Canvas) -> None:
    assert canvas.box(np.array([(-900.0, -900.0), (900.0, 900.0)]), 1.0) == (0, 0, 240, 200)


def test_an_edge_is_half_where_the_distance_is_zero() -> None:
    assert edge(np.array([-5.0, 0.0, 5.0], np.float32)) == pytest.approx([0, 0.5, 1], abs=1e-5)
