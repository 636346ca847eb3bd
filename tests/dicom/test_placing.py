from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from overread.dicom.codes import Segment
from overread.dicom.geometry import Plane, lay_out, stack
from overread.dicom.placing import check_frame, place, planes_of, refer
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask, Source
from overread.errors import Refused
from tests.dicom.series import LESION, affine, images

SHAPE = (9, 10, 12)


def planes(
    grid: np.ndarray[Any, Any] | None = None, without: tuple[int, ...] = ()
) -> tuple[Plane, ...]:
    made = images(np.zeros(SHAPE, np.int16), affine() if grid is None else grid)
    kept = [one for index, one in enumerate(made) if index not in without]
    return stack(Series(tuple(Instance(one) for one in kept)))


def test_slices_that_lie_on_the_images_one_by_one_stay_as_they_are() -> None:
    array = np.zeros(SHAPE, np.uint8)
    placed = place(affine(), SHAPE, planes())
    assert placed.slices == tuple(range(9))
    assert placed.stray == ()
    assert placed.take(array) is array


@pytest.mark.parametrize("turned", [(0, 0, 0), (20, -13, 35), (90, 0, 0)])
def test_a_stack_that_runs_the_other_way_is_turned(turned: tuple[float, ...]) -> None:
    grid = affine(turned=turned)
    over = grid.copy()
    over[:3, 3] += over[:3, 0] * 8
    over[:3, 0] *= -1
    assert place(over, SHAPE, planes(grid)).slices == tuple(range(8, -1, -1))


def test_slices_may_be_fewer_than_images() -> None:
    grid = affine()
    grid[:3, 3] += grid[:3, 0] * 3
    placed = place(grid, (4, 10, 12), planes())
    assert placed.slices == (None, None, None, 0, 1, 2, 3, None, None)
    taken = placed.take(np.ones((2, 4, 10, 12), np.uint8))
    assert taken.shape == (2, 9, 10, 12)
    assert taken[0].any(axis=(1, 2)).tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]


def test_where_an_image_is_missing_a_slice_is_left_over() -> None:
    placed = place(affine(), SHAPE, planes(without=(4, 5)))
    assert placed.slices == (0, 1, 2, 3, 6, 7, 8)
    assert placed.stray == (4, 5)


def test_where_images_lie_off_their_place_each_takes_the_nearest_slice() -> None:
    made = images(np.zeros(SHAPE, np.int16), affine())
    for one, off in zip(made, (0, 1.2, -1.4, 2, 0, 0, 0, 0, 0), strict=True):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, y, float(z) + off]
    found = stack(Series(tuple(Instance(one) for one in made)))
    assert place(affine(), SHAPE, found).slices == tuple(range(9))


@pytest.mark.parametrize(
    ("shift", "without", "message"),
    [
        ((0, 0, 2.0), (), r"slice 0 of the mask lies 2\.00 mm from the nearest image"),
        ((0.5, 0, 0), (), r"lies 0\.50 mm"),
        ((0.5, 0, 0), (4,), r"lies 0\.50 mm"),
        ((0, 0, 500), (), "from the nearest image"),
        ((0, 0, 500), (4,), "from the nearest image"),
    ],
)
def test_what_lies_elsewhere_is_not_placed(
    shift: tuple[float, ...], without: tuple[int, ...], message: str
) -> None:
    grid = affine()
    grid[:3, 3] += shift
    with pytest.raises(ValueError, match=message):
        place(grid, SHAPE, planes(without=without))


def test_another_size_is_not_placed() -> None:
    with pytest.raises(ValueError, match=r"slices of 20 × 12, the images 10 × 12.*to_source"):
        place(affine(), (9, 20, 12), planes())


def test_the_images_are_those_that_the_volume_was_read_from() -> None:
    made = images(np.zeros(SHAPE, np.int16), affine())
    scout = images(np.zeros((1, 10, 12), np.int16), affine(turned=(90, 0, 0)), name="scout")
    series = Series(tuple(Instance(one) for one in [*scout, *made]))
    chosen = tuple((str(one.SOPInstanceUID), 0) for one in made)
    source = Source(SHAPE, affine(), planes=chosen)
    segments: tuple[Segment, ...] = (LESION,)
    mask = Mask(np.zeros(SHAPE, np.uint8), affine(), segments, source=source)
    assert [plane.key for plane in planes_of([mask], series)] == list(chosen)


def test_only_frames_of_several_are_numbered() -> None:
    grid = lay_out(Series(tuple(Instance(one) for one in images(np.zeros(SHAPE), affine()))))
    assert "ReferencedFrameNumber" not in refer(grid.planes[2])
    grid.planes[2].instance.header.NumberOfFrames = 3
    assert refer(grid.planes[2]).ReferencedFrameNumber == 1


def test_a_mask_of_another_exam_is_not_put_onto_images_that_lie_alike() -> None:
    series = Series(tuple(Instance(one) for one in images(np.zeros(SHAPE), affine())))
    segments = (Segment(1, "Lesion", LESION.category, LESION.type),)
    other = Mask(np.zeros(SHAPE, np.uint8), affine(), segments, "1.2.3.4")
    own = Mask(np.zeros(SHAPE, np.uint8), affine(), segments, series.header.FrameOfReferenceUID)
    assert len(planes_of([own], series)) == 9
    with pytest.raises(ValueError, match=r"in frame of reference 1\.2\.3\.4, the images in 2\.25"):
        planes_of([own, other], series)


@pytest.mark.parametrize("frame", ["1.2.3.4", ""])
def test_an_object_of_another_space_is_not_read_onto_images_that_lie_alike(frame: str) -> None:
    series = Series(tuple(Instance(one) for one in images(np.zeros(SHAPE), affine())))
    made = Dataset()
    made.FrameOfReferenceUID = frame
    if not frame:
        check_frame(made, series)
        return
    with pytest.raises(Refused, match=r"in frame of reference 1\.2\.3\.4, the images in 2\.25"):
        check_frame(made, series)
