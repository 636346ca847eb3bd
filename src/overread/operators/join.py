"""Put together what several steps made."""

from __future__ import annotations

from overread.validation.results import Measurements


def join_measurements(
    first: Measurements,
    second: Measurements,
    third: Measurements | None = None,
    fourth: Measurements | None = None,
) -> Measurements:
    """Put the measurements of several steps into one, for one table or one report.

    Parameters
    ----------
    first, second : Measurements
        In this order.
    third, fourth : Measurements, optional
        After them.

    Returns
    -------
    Measurements
        All of them, unchanged.
    """
    given = [one for one in (first, second, third, fourth) if one is not None]
    return Measurements(tuple(item for one in given for item in one.items))
