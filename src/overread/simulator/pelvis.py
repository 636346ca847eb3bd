"""A phantom hip patient: a drawn AP pelvis radiograph whose hips, and what ails them, are known.

Nothing here is anyone's. Bones are balls, rods and plates whose thickness along the beam is added
up, over soft tissue and bowel gas, and spoilt by noise, uneven exposure and markers. A fracture
parts a femur's neck and moves what is below it; hardware is a nail with a neck screw, cannulated
screws, a plate, or a whole prosthesis.

Coordinates are millimetres in the picture, x to its right (the patient's left), y down, from the
middle between the femoral heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overread.simulator.canvas import Box, Canvas, Picture, Point, edge

State = Literal["normal", "fracture", "hardware"]
Photometric = Literal["MONOCHROME1", "MONOCHROME2"]

STATES: tuple[State, ...] = ("normal", "fracture", "hardware")
_EXTENT = (330.0, 400.0)
"""Millimetres of an adult's picture, down and across; a child's is smaller."""
_CHILD = 0.45
_DRAWN = 0.6
"""Millimetres of the grid that anatomy is drawn on; a finer picture is interpolated from it."""


@dataclass(frozen=True)
class Hip:
    """One hip's truth.

    Attributes
    ----------
    side : {"left", "right"}
        The patient's; the left hip lies on the picture's right.
    state : {"normal", "fracture", "hardware"}
        What is to be found.
    box : tuple of float
        x0, y0, x1, y1 in pixels, edges counted from the outer corner of the first pixel: from the
        acetabular roof to the lesser trochanter, from the femoral head to the greater trochanter.
    """

    side: Literal["left", "right"]
    state: State
    box: Box


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One projection.

    Attributes
    ----------
    image : ndarray, shape (rows, columns), uint16
        Stored values of 12 bits.
    spacing : float
        Millimetres between pixels.
    photometric : {"MONOCHROME1", "MONOCHROME2"}
        With MONOCHROME1 bone has the lowest values.
    hips : tuple of Hip
        Right and left; empty where the view does not show both.
    """

    image: NDArray[np.uint16]
    spacing: float
    photometric: Photometric
    hips: tuple[Hip, ...]


def pelvis(
    seed: int,
    *,
    states: tuple[State, State] | None = None,
    spacing: float | None = None,
    photometric: Photometric | None = None,
    child: bool = False,
) -> Radiograph:
    """Take an AP view of a phantom's pelvis.

    Parameters
    ----------
    seed : int
        Which patient: anatomy, pose, size, exposure, and whatever is not asked for below.
    states : tuple of str, optional
        Of the right hip and the left; a child's are normal.
    spacing : float, optional
        Millimetres between pixels; 0.14 to 0.2 if not given.
    photometric : str, optional
        How pixels are stored.
    child : bool
        Whether it is a small child, whose femoral heads are hardly bone yet.

    Returns
    -------
    Radiograph
        The same for the same arguments.

    Raises
    ------
    ValueError
        A child with another state than normal is asked for.
    """
    rng = np.random.default_rng([seed, 43])
    drawn_states = tuple(STATES[i] for i in rng.integers(3, size=2))
    drawn_spacing = float(rng.choice([0.14, 0.143, 0.16, 0.168, 0.2]))
    drawn_photometric: Photometric = "MONOCHROME1" if rng.random() < 0.3 else "MONOCHROME2"
    chosen = states or (drawn_states[0], drawn_states[1])
    if child:
        if states not in (None, ("normal", "normal")):
            raise ValueError(f"a child's hips are drawn normal only, not {states}")
        chosen = ("normal", "normal")
    spacing = spacing or drawn_spacing
    size = rng.normal(1, 0.05) * (_CHILD if child else 1)
    extent = np.array(_EXTENT) * rng.uniform(0.92, 1.06, 2) * (_CHILD if child else 1)
    canvas = Canvas(extent, max(_DRAWN, spacing), size, rng)
    _trunk(canvas, rng, child)
    sides = _pair(rng, child)
    truths = []
    for (sign, side), state in zip(((-1, "right"), (1, "left")), chosen, strict=True):
        hip = sides[0 if sign < 0 else 1]
        _half_pelvis(canvas, hip, sign, child)
        corners = (
            _small_femur(canvas, hip, sign) if child else _femur(canvas, hip, sign, state, rng)
        )
        box = canvas.box(corners, spacing)
        truths.append(Hip("right" if side == "right" else "left", state, box))
    image = canvas.exposed(spacing, rng)
    return Radiograph(*_stored(image, spacing, photometric or drawn_photometric), tuple(truths))


def lateral(seed: int, *, spacing: float = 0.16) -> Radiograph:
    """Take a lateral view of one hip, which no reader of AP views wants.

    Parameters
    ----------
    seed : int
        Which patient.
    spacing : float
        Millimetres between pixels.

    Returns
    -------
    Radiograph
        Without hips.
    """
    rng = np.random.default_rng([seed, 44])
    canvas = Canvas(np.array((240.0, 300.0)), max(_DRAWN, spacing), 1.0, rng)
    canvas.soft += canvas.rod((-160, 20), (160, 0), 95, 75, 0.006)
    canvas.bone += canvas.rod((-150, -40), (-40, -30), 45, 40, 0.004)
    canvas.bone += canvas.ball((-40, 0), 24)
    canvas.bone += canvas.rod((-35, 0), (20, 12), 16, 18)
    canvas.bone += canvas.rod((20, 12), (190, 30), 16, 15, hollow=0.5)
    return Radiograph(*_stored(canvas.exposed(spacing, rng), spacing, "MONOCHROME2"), ())


@dataclass(frozen=True)
class _Side:
    """One hip's bones before anything happens to them, on the picture's right half."""

    head: Point
    radius: float
    crest: Point
    """Where neck and shaft meet."""
    foot: Point
    """Where the shaft leaves the picture."""


def _pair(rng: np.random.Generator, child: bool) -> tuple[_Side, _Side]:
    """Draw both sides: alike, but not the same."""
    out_to, radius, neck = rng.normal(88, 4), rng.normal(24, 1.5), rng.normal(50, 3)
    steep = np.radians(rng.uniform(30, 48))
    child_head = rng.choice([0.0, rng.uniform(5, 10)])
    sides = []
    for _ in range(2):
        if child:
            crest = np.array([92.0, 14.0]) + rng.normal(0, 4, 2)
            head = crest + np.array((-13, -24)) + rng.normal(0, 1.5, 2)
            sides.append(
                _Side(head, child_head, crest, crest + np.array((rng.uniform(-25, 12), 260)))
            )
            continue
        head = np.array([out_to, 0.0]) + rng.normal(0, 2, 2)
        angle = steep + rng.normal(0, 0.06)
        crest = head + neck * np.array([np.cos(angle), np.sin(angle)])
        sides.append(_Side(head, radius, crest, crest + np.array((rng.uniform(-35, -8), 260))))
    return sides[0], sides[1]


def _trunk(canvas: Canvas, rng: np.random.Generator, child: bool) -> None:
    """Draw soft tissue, gas, sacrum and lumbar spine."""
    wide = rng.uniform(165, 215)
    canvas.soft += canvas.rod((0, -300), (0, 60), wide, wide, 0.006, hollow=0)
    for sign in (-1, 1):
        knee = (sign * rng.uniform(80, 105), 300)
        canvas.soft += canvas.rod((sign * 90, 60), knee, 85, 72, 0.006, hollow=0)
    for _ in range(rng.integers(2, 9)):
        place, reach = rng.uniform((-70, -190), (70, -30)), rng.uniform(6, 22)
        away = np.hypot(canvas.x - place[0], canvas.y - place[1])
        canvas.soft -= rng.uniform(0.1, 0.35) * np.exp(-((away / reach) ** 4))
    if child:
        canvas.bone += canvas.rod((0, -120), (0, -40), 34, 8, 0.003)
    else:
        canvas.bone += canvas.rod((0, -115), (0, -42), 46, 12, 0.005)
    for height in (-138, -176, -214):
        flat = np.maximum(np.abs(canvas.x) / 25, np.abs(canvas.y - height) / 15)
        canvas.bone += 0.18 * edge((1 - flat) * 15) + 0.08 * edge(2 - np.abs(flat - 1) * 15)


def _half_pelvis(canvas: Canvas, hip: _Side, sign: int, child: bool) -> None:
    """Draw ilium, ischium, pubis and the hip's socket."""
    m = np.array([sign, 1.0])
    hx = 66.0 if child else hip.head[0]
    lean = sign * 0.45
    if child:
        parts = [
            canvas.plate(m * (hx + 6, -88), (44, 60), lean, 0.16),
            canvas.rod(m * (66, -10), m * (86, -34), 9, 26, 0.009),
            canvas.rod(m * (60, 2), m * (50, 52), 13, 9, 0.016),
            canvas.rod(m * (56, 4), m * (14, 34), 8, 6, 0.016),
            canvas.rod(m * (12, 42), m * (42, 56), 5, 6, 0.014),
        ]
    else:
        parts = [
            canvas.plate(m * (hx - 5, -90), (46, 62), lean, 0.15),
            canvas.rod(m * (hx - 16, -22), m * (hx - 14, -64), 25, 24, 0.009),
            canvas.rod(m * (hx - 18, 6), m * (9, 38), 10, 10, 0.018),
            canvas.rod(m * (10, 46), m * (hx - 34, 80), 8, 9, 0.018),
            canvas.rod(m * (hx - 16, 4), m * (hx - 30, 80), 18, 14, 0.012),
        ]
        canvas.bone += canvas.arc(m * hip.head, hip.radius + 5, 2.5, 0.16)
    canvas.bone += np.maximum.reduce(parts)


def _femur(
    canvas: Canvas, hip: _Side, sign: int, state: State, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a femur, whole, broken or mended.

    Returns
    -------
    ndarray, shape (n, 2)
        Points that the hip's box bounds.
    """
    m = np.array([sign, 1.0])
    head, crest, foot = m * hip.head, m * hip.crest, m * hip.foot
    down = (foot - crest) / np.linalg.norm(foot - crest)
    neck = crest - head
    line = head + rng.uniform(0.35, 0.85) * neck
    move, turn, gap = np.zeros(2), np.eye(2), np.zeros(2)
    if state == "fracture":
        move = rng.uniform(5, 15) * -down + m * rng.uniform((0, -1), (7, 2))
        angle = -sign * np.radians(rng.uniform(4, 20))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        gap = rng.uniform(1.0, 3.0) * neck / np.linalg.norm(neck)

    def below(point: Point) -> Point:
        return np.asarray(line + turn @ (point - line) + move)

    top, lesser = crest + m * (9, -18), crest + 34 * down - m * (13, 0)
    prosthesis = state == "hardware" and rng.random() < 0.35
    broken = state == "fracture"
    upper = [
        canvas.ball(head, hip.radius),
        canvas.rod(head, line - gap if broken else crest, 17, 17, 0.014, cut=(False, broken)),
    ]
    start = head + 0.8 * neck if prosthesis else below(line + gap)
    lower = [
        canvas.rod(start, below(crest), 17, 19, 0.014, cut=(broken or prosthesis, False)),
        canvas.rod(below(crest + m * (4, 8)), below(top), 15, 10, 0.015),
        canvas.ball(below(lesser), 10, 0.014),
        canvas.rod(below(crest), below(foot), 19, 15, 0.018, hollow=0.6),
    ]
    if broken:
        canvas.bone += np.maximum.reduce(upper) + np.maximum.reduce(lower)
    else:
        canvas.bone += np.maximum.reduce(lower if prosthesis else upper + lower)
    if state == "hardware":
        _hardware(canvas, (head, crest, foot), hip.radius, prosthesis, rng)
    ends = [head - m * (hip.radius + 7, 0), head - (0, hip.radius + 12)]
    ends += [
        below(top) + m * (15, -10),
        below(crest) + m * (26, 0),
        below(lesser) + np.array((0, 16)),
    ]
    return np.array(ends)


def _small_femur(canvas: Canvas, hip: _Side, sign: int) -> NDArray[np.float64]:
    """Draw a small child's femur, whose head is still cartilage but for a nucleus."""
    m = np.array([sign, 1.0])
    crest, foot = m * hip.crest, m * hip.foot
    down = (foot - crest) / np.linalg.norm(foot - crest)
    parts = [
        canvas.ball(m * hip.head, hip.radius),
        canvas.rod(crest, crest + 34 * down, 20, 13, 0.014, cut=(True, False)),
        canvas.rod(crest + 26 * down, foot, 13, 12, 0.018, hollow=0.5),
    ]
    canvas.bone += np.maximum.reduce(parts)
    medial = sign * 55.0
    return np.array([(medial, -30), crest + m * (28, 0), crest + m * (0, 42), (medial, 52)])


def _hardware(
    canvas: Canvas,
    bones: tuple[Point, Point, Point],
    radius: float,
    prosthesis: bool,
    rng: np.random.Generator,
) -> None:
    """Draw what a surgeon put in."""
    head, crest, foot = bones
    down = (foot - crest) / np.linalg.norm(foot - crest)
    aside = np.array([-down[1], down[0]]) * (1 if crest[0] < 0 else -1)  # away from the middle
    tip = head + 0.15 * (crest - head)
    if prosthesis:
        canvas.metal += canvas.arc(head, radius + 1, 2.0, 0.5)
        canvas.metal += canvas.ball(head, rng.uniform(13, 17), 0.03)
        canvas.metal += canvas.rod(head, crest, 7, 9)
        canvas.metal += canvas.rod(crest, crest + rng.uniform(90, 130) * down, 10, 5)
        return
    kind = rng.choice(["nail", "screws", "plate"])
    if kind == "screws":
        for offset in (-9.0, 0.0, 9.0)[: rng.integers(2, 4)]:
            shift = offset * down + rng.normal(0, 1, 2)
            end = crest + 12 * aside + shift
            canvas.metal += canvas.rod(tip + 0.6 * shift, end, 3, 3, 0.08)
        return
    if kind == "nail":
        end = crest + rng.uniform(130, 230) * down
        canvas.metal += canvas.rod(crest - 22 * down, end, 6, 5)
        low = crest + 12 * aside + 16 * down
    else:
        low = crest + 20 * aside + 14 * down
        end = low + rng.uniform(60, 100) * down
        canvas.metal += canvas.rod(low, end, 4, 4, 0.06)
        for part in np.linspace(0.3, 0.95, 4):
            hole = low + part * (end - low)
            canvas.metal += canvas.rod(hole, hole - 34 * aside, 2.2, 2.2, 0.08)
    canvas.metal += canvas.rod(tip, low, 5, 5, 0.05)


def _stored(
    image: Picture, spacing: float, photometric: Photometric
) -> tuple[NDArray[np.uint16], float, Photometric]:
    values = 1 - image if photometric == "MONOCHROME1" else image
    return np.round(values * 3800 + 100).astype(np.uint16), spacing, photometric
