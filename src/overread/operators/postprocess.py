"""Clean a mask."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from overread.dicom.volume import Mask
from overread.measures.volumetry import MM3_PER_ML
from overread.pipelines.ports import Account


def keep_components(
    mask: Mask,
    account: Account,
    *,
    largest: Annotated[int, Field(ge=1)] | None = None,
    at_least_ml: Annotated[float, Field(ge=0)] | None = None,
    at_least_voxels: Annotated[int, Field(ge=1)] | None = None,
) -> Mask:
    """Keep the connected parts of each segment that are large enough.

    Parts are connected through faces, edges and corners (26 neighbours). All settings that are
    given must hold.

    Parameters
    ----------
    largest : int, optional
        Keep only so many parts of each segment, the largest; all of a tie at the end.
    at_least_ml : float, optional
        Least volume of a part.
    at_least_voxels : int, optional
        Least number of voxels of a part.
    """
    least = max(
        at_least_voxels or 1, int(np.ceil((at_least_ml or 0) * MM3_PER_ML / mask.voxel_volume))
    )
    kept = np.zeros_like(mask.array)
    for segment in mask.segments:
        parts, count = ndimage.label(mask.array == segment.number, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        bound = least
        if largest is not None and count > largest:
            bound = max(bound, int(np.sort(sizes)[-largest]))
        keep = sizes >= max(bound, 1)
        kept[keep[parts]] = segment.number
        account.notes.append(
            f"{segment.label}: {int(keep.sum())} of {count} parts kept; "
            f"{int(sizes[~keep].sum())} voxels dropped"
        )
    return mask.with_array(kept)
