from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset

from overread.dicom.planes import Plane, planes
from overread.dicom.study import Instance, Series
from tests.dicom.series import affine, images

GRID = affine((3, 0.8, 0.7), (20, -10, 40))


def one_plane(**values: object) -> Plane:
    (one,) = images(np.zeros((1, 8, 10), np.int16), GRID)
    for keyword, value in values.items():
        setattr(one, keyword, value)
    (plane,) = planes(Series((Instance(one),)))
    return plane


def test_its_corners_lie_where_they_do_in_the_grid() -> None:
    plane = one_plane()
    np.testing.assert_allclose(plane.index_in(GRID), [[0, 0, 0], [0, 7, 0], [0, 0, 9]], atol=1e-6)
    shifted = GRID.copy()
    shifted[:3, 3] -= 2.5 * GRID[:3, 0] + GRID[:3, 2]
    np.testing.assert_allclose(
        plane.index_in(shifted), [[2.5, 0, 1], [2.5, 7, 1], [2.5, 0, 10]], atol=1e-6
    )


@pytest.mark.parametrize(
    ("values", "address", "found"),
    [
        ({"EchoTime": "2.5"}, "EchoTime", ("2.5",)),
        ({"AcquisitionDateTime": "20260101101010"}, "AcquisitionTime", ("101512",)),
        ({"TemporalPositionIndex": 3}, "TemporalPositionIdentifier", ("3",)),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "ImageType", ("ORIGINAL", "PRIMARY", "P")),
        ({}, "EchoTime", ()),
    ],
)
def test_its_values(values: dict[str, object], address: str, found: tuple[str, ...]) -> None:
    assert one_plane(**values).values(address) == found


def test_a_b_value_in_a_private_element_of_siemens_is_found() -> None:
    plane = one_plane()
    block = plane.instance.header.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    assert plane.values("DiffusionBValue") == ("1000",)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda one: None, "image 1"),
        (lambda one: one.pop("InstanceNumber"), "image 2.25."),
        (lambda one: setattr(one, "InstanceNumber", 17), "image 17"),
    ],
)
def test_a_person_can_find_it(edit: Callable[[Dataset], object], name: str) -> None:
    plane = one_plane()
    header: Dataset = plane.instance.header
    edit(header)
    assert plane.name.startswith(name)
    assert plane.key == (plane.instance.uid, 0)
