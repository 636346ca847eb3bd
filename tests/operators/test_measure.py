from __future__ import annotations

import numpy as np

from overread.dicom.volume import Mask
from overread.operators.measure import METHOD, measure_volumes
from overread.validation.results import Measurement
from tests.operators.test_postprocess import SEGMENTS


def test_every_segment_has_its_volume_even_none() -> None:
    array = np.zeros((2, 4, 4), np.uint8)
    array[0, 0, :3] = 2
    made = measure_volumes(Mask(array, np.diag([10.0, 10.0, 5.0, 1.0]), SEGMENTS))
    assert made.items == (
        Measurement("One", "volume", 0.0, "mL", METHOD),
        Measurement("Two", "volume", 1.5, "mL", METHOD),
    )
