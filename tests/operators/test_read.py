from __future__ import annotations

from pathlib import Path

import numpy as np

from overread.operators.read import read_volume
from overread.pipelines.ports import Account
from tests.dicom.series import affine, images, keep


def test_every_slice_is_accounted_for(tmp_path: Path) -> None:
    series = keep(images(np.zeros((4, 5, 6), np.int16), affine()), tmp_path)
    account = Account()
    volume = read_volume(series, account)
    assert volume.array.shape == (4, 5, 6)
    assert [uid for uid, _ in account.used] == [one.uid for one in series]
    assert account.notes == ["4 slices of 5 × 6, voxels of 5.000 × 0.900 × 0.900 mm"]
