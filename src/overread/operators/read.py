"""Read the pixels of a series."""

from __future__ import annotations

from typing import Literal

from overread.dicom.stacks import Arrangement, Policies, Split, arrange
from overread.dicom.study import Series
from overread.dicom.volume import Volume, read_planes
from overread.pipelines.ports import Account


def read_volume(
    series: Series,
    account: Account,
    *,
    split: Split | list[Split] | None = None,
    gantry_tilt: Literal["refuse", "resample"] = "refuse",
    missing_slice: Literal["refuse", "interpolate"] = "refuse",
    uneven_increment: Literal["refuse", "resample"] = "refuse",
    mixed_orientation: Literal["refuse", "largest"] = "refuse",
    localiser: Literal["refuse", "drop"] = "refuse",
) -> Volume:
    """Read a series as one volume: float32, rescaled, on a regular grid in patient space.

    Where a slice lies is taken from its position and orientation alone. Single-frame and enhanced
    multi-frame images and Siemens mosaics are read, in every transfer syntax that can be decoded
    here. RescaleSlope and RescaleIntercept of each slice, or its ModalityLUTSequence, are applied;
    a CT is in Hounsfield units. MONOCHROME1 is not inverted: it says how values are shown.

    A series that is no plain regular volume is refused, by the name of the problem. Each setting is
    named after one, and says what to do about it instead; what was done stands on the job's page.
    A mask that is made from the volume finds its way back to the images as they are.

    Parameters
    ----------
    series : Series
        In any order.
    split : Split or list of Split, optional
        Which volume of several in one series is read: ``{by: EchoTime, number: 1}`` (of the
        different values at each position, in ascending order, from 1) or
        ``{by: DiffusionBValue, value: 1000}``. Several are applied one after the other.
    gantry_tilt : str
        ``resample`` shifts each slice within its plane, so that the volume's axes are at right
        angles; rows or columns are added, filled with the lowest value.
    missing_slice : str
        ``interpolate`` fills gaps of one or two slices linearly from the neighbours.
    uneven_increment : str
        ``resample`` interpolates linearly to even slices at the median distance, where no gap is
        more than three times that.
    mixed_orientation : str
        ``largest`` reads the most images that share one orientation, size and spacing.
    localiser : str
        ``drop`` leaves out images whose ImageType says LOCALIZER, where others do not.

    Returns
    -------
    Volume
        Slices ascending along the normal of the images (row × column direction).

    Raises
    ------
    GeometryError
        The slices make no regular grid, and no setting allows for why.
    Refused
        Pixels are missing, in colour, or cannot be decoded.
    """
    splits = split if isinstance(split, list) else [split] if split else []
    policies = Policies(
        tuple(splits), gantry_tilt, missing_slice, uneven_increment, mixed_orientation, localiser
    )
    arrangement = arrange(series, policies)
    found = read_planes(arrangement)
    _account(series, arrangement, account)
    slices, rows, columns = found.array.shape
    spacing = " × ".join(f"{step:.3f}" for step in found.spacing)
    account.notes.append(f"{slices} slices of {rows} × {columns}, voxels of {spacing} mm")
    return found


def _account(series: Series, arrangement: Arrangement, account: Account) -> None:
    used = {plane.instance.uid for plane in arrangement.planes}
    unused = {plane.instance.uid: why for plane, why in arrangement.left_out}
    for image in series:
        if image.uid in used:
            account.used.append((image.uid, "a slice of the volume"))
        else:
            account.unused.append((image.uid, unused[image.uid]))
    if any(uid in used for uid in unused):
        frames = len(arrangement.planes) + len(arrangement.left_out)
        account.notes.append(f"{len(arrangement.planes)} of {frames} frames were read")
    account.notes.extend(arrangement.notes)
