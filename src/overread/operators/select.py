"""Choose the series that a pipeline works on."""

from __future__ import annotations

from typing import Literal

from overread.dicom.match import Condition
from overread.dicom.study import Exam, Instance, Series
from overread.errors import Refused
from overread.pipelines.ports import Account

Preference = Literal["most_instances", "fewest_instances", "latest", "earliest"] | Condition


def select_series(
    exam: Exam, account: Account, *, where: Condition, prefer: tuple[Preference, ...] = ()
) -> Series:
    """Choose one series of an exam.

    The condition is asked of every image, not of a series' first. A series is a candidate with
    those of its images for which the condition holds.

    Parameters
    ----------
    where : Condition
        What an image must be.
    prefer : tuple
        What decides between several candidates, first things first: ``most_instances``,
        ``fewest_instances``, ``latest``, ``earliest`` (by acquisition date and time, else the
        series'), or a condition that all images of the better one fulfil.

    Returns
    -------
    Series
        The chosen series' images for which the condition holds, in the order of arrival.

    Raises
    ------
    Refused
        No series fits, or several do and ``prefer`` does not settle which.
    """
    candidates: list[Series] = []
    reasons: list[str] = []
    for series in exam.series():
        fitting = [one for one in series if where.explain(one.header, one.origin).true]
        if fitting:
            candidates.append(Series(tuple(fitting)))
            taken = set(map(id, fitting))
            for one in series:
                if id(one) not in taken:
                    account.unused.append((one.uid, _why_not(where, one)))
        else:
            reason = _why_not(where, series.instances[0])
            reasons.append(f"{name(series)}: {reason}")
            account.unused.append((series.uid, reason))
    if not candidates:
        there = "; ".join(reasons) or "the exam has no images"
        raise Refused(
            f"no series fits what the pipeline asks for. There: {there}. Send the exam with the "
            "series that is wanted"
        )
    for preference in prefer:
        if len(candidates) > 1:
            candidates = _narrow(candidates, preference, account)
    if len(candidates) > 1:
        listed = "; ".join(name(series) for series in candidates)
        raise Refused(
            f"{len(candidates)} series fit what the pipeline asks for, and nothing says which to "
            f"take: {listed}. Send only the one that is wanted, or let the pipeline prefer one"
        )
    chosen = candidates[0]
    account.used.append((chosen.uid, f"{name(chosen)} fits what the pipeline asks for"))
    return chosen


def name(series: Series) -> str:
    """Name a series as people do: its number, description and count of images."""
    number = series.header.get("SeriesNumber")
    description = series.header.get("SeriesDescription") or "without description"
    return f"series {number if number is not None else '?'} “{description}” ({len(series)} images)"


def _why_not(where: Condition, instance: Instance) -> str:
    return ", ".join(
        line.strip() for line in where.explain(instance.header, instance.origin).lines()
    )


def _narrow(candidates: list[Series], preference: Preference, account: Account) -> list[Series]:
    if isinstance(preference, Condition):
        liked = [
            series
            for series in candidates
            if all(preference.explain(one.header, one.origin).true for one in series)
        ]
        kept, why = liked or candidates, "another series fulfils a preferred condition"
    else:
        keys = [_rank(series, preference) for series in candidates]
        pick = max if preference in ("most_instances", "latest") else min
        # A series without a date is neither the latest nor the earliest.
        known = [key for key in keys if key != ""]
        best = pick(known) if known else ""
        kept = [series for series, key in zip(candidates, keys, strict=True) if key == best]
        why = f"another series is preferred: {preference.replace('_', ' ')}"
    for series in candidates:
        if series not in kept:
            account.unused.append((series.uid, f"{name(series)}: {why}"))
    return kept


def _rank(series: Series, preference: str) -> str:
    if preference in ("most_instances", "fewest_instances"):
        frames = sum(int(one.header.get("NumberOfFrames") or 1) for one in series)
        return f"{frames:012d}"
    for kind in ("Acquisition", "Series", "Content"):
        if series.header.get(f"{kind}Date"):
            when = series.header[f"{kind}Date"].value
            return f"{when} {series.header.get(f'{kind}Time') or ''}"
    return str(series.header.get("AcquisitionDateTime") or "")
