"""Read the pixels of a series, or what was drawn on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from overread.dicom.codes import Segment
from overread.dicom.edited import match
from overread.dicom.provenance import DerivedObject
from overread.dicom.seg import read_seg
from overread.dicom.stacks import Arrangement, Policies, Split, arrange
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Volume, read_planes
from overread.errors import Refused
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


def read_segmentation(
    segmentation: DerivedObject | Series,
    source: Series,
    account: Account,
    *,
    segments: tuple[Segment, ...] = (),
) -> Mask:
    """Read a Segmentation as a mask on the grid of its source images.

    Such as one that came with the exam, that a program made, or that a reader has edited.

    Parameters
    ----------
    segmentation : DerivedObject or Series
        The one object.
    source : Series
        The images that it was drawn on.
    segments : list of Segment, optional
        What its segments are taken for, by label, or by number where they have no name: the mask
        then has these numbers and codes, whatever the object says. Its own unless given.

    Returns
    -------
    Mask
        On the grid of the source.

    Raises
    ------
    GeometryError
        The source images make no regular grid.
    Refused
        It is no Segmentation or more than one object, lies elsewhere than the images, holds
        probabilities or segments that overlap, or has a segment that is none of the given.
    """
    if isinstance(segmentation, Series):
        if len(segmentation.instances) != 1:
            raise Refused(f"{len(segmentation.instances)} objects; one Segmentation was expected")
        dataset = segmentation.instances[0].dataset()
    else:
        dataset = segmentation.dataset
    mask = read_seg(dataset, source)
    if not isinstance(mask, Mask):
        raise Refused(
            "the segmentation holds probabilities, or segments that overlap; where a voxel is of "
            "two segments, leave it to one"
        )
    account.used.append((str(dataset.SOPInstanceUID), "the segmentation"))
    if not segments:
        return mask
    meant = match(mask.segments, segments)
    numbers = np.zeros(max([*meant, int(mask.array.max())]) + 1, np.uint16)
    for number, segment in meant.items():
        numbers[number] = segment.number
    return replace(mask, array=numbers[mask.array], segments=segments)
