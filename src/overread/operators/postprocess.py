"""Make a mask of values, and clean, join and part it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from overread.dicom.codes import LEFT, RIGHT, TISSUE, Code, Segment
from overread.dicom.geometry import turn_to_axial
from overread.dicom.volume import Affine, Mask, Probability, Volume
from overread.measures.volumetry import MM3_PER_ML
from overread.operators.intensity import otsu
from overread.pipelines.ports import Account

Label = int | str
"""A segment, by its number or by its label."""

Labels = Annotated[tuple[Label, ...], Field(min_length=1)]

BRIGHT = Segment(1, "Bright", TISSUE, TISSUE)


def chosen(mask: Mask | Probability, labels: Sequence[Label] | None) -> tuple[Segment, ...]:
    """Return the segments that a setting names, in its order; all where it names none.

    Raises
    ------
    ValueError
        The mask has no such segment.
    """
    if labels is None:
        return mask.segments
    by_name: dict[Label, Segment] = {one.label: one for one in mask.segments}
    by_name |= {one.number: one for one in mask.segments}
    for label in labels:
        if label not in by_name:
            known = ", ".join(f"{one.number} ({one.label})" for one in mask.segments)
            raise ValueError(f"the mask has no segment {label!r}; it has {known or 'none'}")
    return tuple(by_name[label] for label in labels)


def threshold(
    volume: Volume | Probability,
    account: Account,
    *,
    above: float | Literal["otsu"] | None = None,
    segment: Segment = BRIGHT,
) -> Mask:
    """Make a mask of what is brighter than a threshold, or of probabilities.

    On a volume it needs no model: everything above the threshold is the segment. On probabilities
    each voxel takes its most probable segment, if that one reaches the threshold.

    Parameters
    ----------
    volume : Volume or Probability
        What the mask is made of.
    above : float or "otsu", optional
        On a volume, the threshold in its unit, which a voxel must exceed, or Otsu's. On
        probabilities, what the greatest of them must reach; the model's own threshold unless given.
    segment : Segment
        On a volume: what is segmented. Probabilities have their own segments.

    Returns
    -------
    Mask
        On the same grid.

    Raises
    ------
    ValueError
        A volume without ``above``, or probabilities with ``otsu``.
    """
    if isinstance(volume, Probability):
        return _most_probable(volume, account, above)
    if above is None:
        raise ValueError("threshold on a volume takes above: a value, or otsu")
    value = otsu(volume.array) if above == "otsu" else above
    found = np.zeros(volume.array.shape, dtype=np.uint8 if segment.number < 256 else np.uint16)
    if value is not None:
        found[volume.array > value] = segment.number
        account.notes.append(f"threshold {value:g} {volume.unit}")
    return Mask(found, volume.affine, (segment,), volume.frame_of_reference, source=volume.source)


def _most_probable(
    found: Probability, account: Account, above: float | Literal["otsu"] | None
) -> Mask:
    if above == "otsu":
        raise ValueError("threshold on probabilities takes above: a probability, not otsu")
    least = found.threshold if above is None else above
    numbers = np.array([segment.number for segment in found.segments])
    kind = np.uint8 if numbers.max() < 256 else np.uint16
    best = numbers.astype(kind)[found.array.argmax(axis=0)]
    best[found.array.max(axis=0) < least] = 0
    account.notes.append(f"the most probable segment where its probability reaches {least:g}")
    return Mask(
        best, found.affine, found.segments, found.frame_of_reference, found.model, found.source
    )


Box = tuple[slice, ...]
NOWHERE: Box = (slice(0), slice(0), slice(0))


def _boxes(labels: NDArray[Any]) -> dict[int, Box]:
    """Return the box that holds each label."""
    found = ndimage.find_objects(labels)
    return {number: box for number, box in enumerate(found, start=1) if box is not None}


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
    mask : Mask
        Any.
    largest : int, optional
        Keep only so many parts of each segment, the largest; all of a tie at the end.
    at_least_ml : float, optional
        Least volume of a part.
    at_least_voxels : int, optional
        Least number of voxels of a part.

    Returns
    -------
    Mask
        The parts that are kept; the segments stay, also those of which nothing is left.
    """
    least = max(
        at_least_voxels or 1, int(np.ceil((at_least_ml or 0) * MM3_PER_ML / mask.voxel_volume))
    )
    kept = np.zeros_like(mask.array)
    boxes = _boxes(mask.array)
    for segment in mask.segments:
        box = boxes.get(segment.number, NOWHERE)
        parts, count = ndimage.label(mask.array[box] == segment.number, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        bound = least
        if largest is not None and count > largest:
            bound = max(bound, int(np.sort(sizes)[-largest]))
        keep = sizes >= max(bound, 1)
        kept[box][keep[parts]] = segment.number
        account.notes.append(
            f"{segment.label}: {int(keep.sum())} of {count} parts kept; "
            f"{int(sizes[~keep].sum())} voxels dropped"
        )
    return mask.with_array(kept)


def remove_small(
    mask: Mask,
    account: Account,
    *,
    below_ml: Annotated[float, Field(gt=0)] | None = None,
    below_voxels: Annotated[int, Field(ge=1)] | None = None,
) -> Mask:
    """Remove the connected parts of each segment that are too small to be believed.

    Parts are connected through faces, edges and corners (26 neighbours); a part that is below
    either bound goes. How many went, and how much, is in the step's notes.

    Parameters
    ----------
    mask : Mask
        Any.
    below_ml : float, optional
        Volume from which a part stays.
    below_voxels : int, optional
        Number of voxels from which a part stays.

    Returns
    -------
    Mask
        What stays.

    Raises
    ------
    ValueError
        Neither setting is given.
    """
    if below_ml is None and below_voxels is None:
        raise ValueError("remove_small takes below_ml, below_voxels or both")
    return keep_components(mask, account, at_least_ml=below_ml, at_least_voxels=below_voxels)


def fill_holes(
    mask: Mask,
    account: Account,
    *,
    by: Literal["volume", "slice"] = "volume",
    segments: Labels | None = None,
) -> Mask:
    """Fill the holes in each segment.

    A hole is background from which no way through faces leads out of the segment: in three
    dimensions, or within each axial slice. What belongs to another segment is no hole and stays.

    Parameters
    ----------
    mask : Mask
        Any.
    by : str
        ``volume`` fills cavities only; ``slice`` fills also tunnels that run through the slices,
        in the slices of the grid that lie nearest the axial plane.
    segments : list of int or str, optional
        Segments by number or label; all unless given. Where two enclose one hole, the first has it.

    Returns
    -------
    Mask
        The segments without holes.

    Raises
    ------
    ValueError
        The mask has no such segment.
    """
    turn = turn_to_axial(mask.affine)
    structure = ndimage.generate_binary_structure(3, 1)
    if by == "slice":
        structure[[0, 2]] = False
    labels = turn.turn(mask.array).copy()
    boxes = _boxes(labels)
    for segment in chosen(mask, segments):
        box = boxes.get(segment.number, NOWHERE)  # a hole lies in the box of what encloses it
        inside = labels[box] == segment.number
        holes = ndimage.binary_fill_holes(inside, structure) & (labels[box] == 0)
        labels[box][holes] = segment.number
        account.notes.append(f"{segment.label}: {int(holes.sum())} voxels filled")
    return mask.with_array(np.ascontiguousarray(turn.back(labels)))


@dataclass(frozen=True)
class Merged(Segment):
    """A segment that others are merged into.

    Attributes
    ----------
    of : tuple of int or str
        The segments that it is made of, by number or label.
    """

    of: Labels = field(kw_only=True)


def merge_labels(
    mask: Mask, account: Account, *, segments: Annotated[tuple[Merged, ...], Field(min_length=1)]
) -> Mask:
    """Join segments: the lobes of a liver to one liver.

    Parameters
    ----------
    mask : Mask
        Any.
    segments : list
        The segments of the new mask, each with ``number``, ``label``, coded ``category`` and
        ``type`` (and ``anatomy``, ``colour``, ``laterality``), and ``of``: the segments, by number
        or label, that it is made of. To keep a segment as it is, name it alone.

    Returns
    -------
    Mask
        With the new segments alone; what is part of none is background, and noted.

    Raises
    ------
    ValueError
        The mask has no such segment, one becomes part of two, or two new ones have one number.
    """
    highest = max((one.number for one in mask.segments), default=0)
    new = np.zeros(highest + 1, np.uint8 if max(s.number for s in segments) < 256 else np.uint16)
    if len({one.number for one in segments}) < len(segments):
        raise ValueError("two of the new segments have the same number")
    for merged in segments:
        for old in chosen(mask, merged.of):
            if new[old.number]:
                raise ValueError(f"segment {old.label} is named twice; expected once")
            new[old.number] = merged.number
            account.used.append((f"segment {old.label}", f"part of {merged.label}"))
    for left in mask.segments:
        if not new[left.number]:
            account.unused.append((f"segment {left.label}", "part of no new segment"))
    plain = tuple(
        Segment(**{each.name: getattr(one, each.name) for each in fields(Segment)})
        for one in segments
    )
    return replace(mask, array=new[mask.array], segments=plain)


def split_left_right(
    mask: Mask,
    account: Account,
    volume: Volume | None = None,
    *,
    segments: Labels | None = None,
    whole_parts: bool = False,
) -> Mask:
    """Part each segment into the patient's right and left, at a mid-sagittal plane.

    The plane is perpendicular to the patient's left-right axis (x of LPS), halfway between the
    outermost voxels to either side: of the segment, or, where ``volume`` is bound, of the body,
    which is what lies above Otsu's threshold. The body's is right for what may be on one side only,
    the segment's own for what is always a pair.

    Parameters
    ----------
    mask : Mask
        Any.
    volume : Volume, optional
        The images, on the mask's grid or another one of the same space: the plane is the body's.
    segments : list of int or str, optional
        Segments to part, by number or label; all unless given.
    whole_parts : bool
        Each connected part goes wholly to the side on which most of it lies.

    Returns
    -------
    Mask
        The right side keeps the segment's number, the left one has the next that is free; both have
        the laterality's code (CID 244), and ``, right`` or ``, left`` in their label.

    Raises
    ------
    ValueError
        The mask has no such segment.
    """
    parted = chosen(mask, segments)
    labels, made = mask.array.copy(), list(mask.segments)
    free = max((one.number for one in mask.segments), default=0)
    if free + len(parted) > np.iinfo(labels.dtype).max:
        labels = labels.astype(np.uint16)
    body = None if volume is None else _middle(volume.array > _level(volume), volume.affine)
    boxes = _boxes(mask.array)
    for segment in parted:
        free += 1
        box = boxes.get(segment.number, NOWHERE)
        inside = mask.array[box] == segment.number
        there = mask.affine.copy()
        there[:3, 3] += there[:3, :3] @ [edge.start or 0 for edge in box]
        middle = _middle(inside, there) if body is None else body
        left = _left_of(inside, there, middle, whole_parts)
        labels[box][left] = free
        place = made.index(segment)
        made[place] = _sided(segment, segment.number, RIGHT)
        made.append(_sided(segment, free, LEFT))
        account.notes.append(
            f"{segment.label}: parted at x = {middle:.1f} mm, right "
            f"{int(inside.sum() - left.sum())} and left {int(left.sum())} voxels"
        )
    return replace(mask, array=labels, segments=tuple(made))


def _level(volume: Volume) -> float:
    found = otsu(volume.array)
    return float("inf") if found is None else found


def _across(shape: tuple[int, ...], affine: Affine) -> NDArray[np.float64]:
    """Return how far to the patient's left each voxel's centre lies, mm."""
    along = [affine[0, axis] * np.arange(size) for axis, size in enumerate(shape)]
    return np.asarray(along[0][:, None, None] + along[1][:, None] + along[2] + affine[0, 3])


def _middle(inside: NDArray[np.bool_], affine: Affine) -> float:
    if not inside.any():
        return 0.0
    across = _across(inside.shape, affine)[inside]
    return float(across.min() + across.max()) / 2


def _left_of(
    inside: NDArray[np.bool_], affine: Affine, middle: float, whole_parts: bool
) -> NDArray[np.bool_]:
    left = _across(inside.shape, affine) > middle
    if not whole_parts:
        return np.asarray(inside & left)
    parts: NDArray[Any]
    parts, count = ndimage.label(inside, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    to_left = np.bincount(parts[left], minlength=count + 1) * 2 > sizes
    to_left[0] = False
    return np.asarray(to_left[parts])


def _sided(segment: Segment, number: int, side: Code) -> Segment:
    label = f"{segment.label}, {side.meaning.lower()}"
    return replace(segment, number=number, label=label, laterality=side)
