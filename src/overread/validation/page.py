"""A project's case page, declared: what stands on it, and how numbers over time are read.

This is what ``page:`` in ``projects/*.yaml`` holds. A project that says nothing gets a page that
fits its results.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from overread.settings import Frozen

Block = Literal[
    "text", "summary", "findings", "plot", "measurements", "form", "objects", "provenance"
]
Column = Literal[
    "date", "accession", "region", "source", "value", "change", "absolute change", "scanner"
]
View = Literal["viewer", "findings", "captures"]


def parse_percent(value: Any) -> Any:
    """Read ``25%`` as 25.0."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip().removesuffix("%"))
    raise ValueError(f"{value!r} is no percentage; write one as 25%")


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice; name each once")
    return names


EachOnce = AfterValidator(_each_once)

Percent = Annotated[float, BeforeValidator(parse_percent), Field(gt=0, le=100_000)]


class Threshold(Frozen):
    """When a change from baseline is one that counts.

    Attributes
    ----------
    increase, decrease : float, optional
        Per cent of the baseline, written ``25%``; what is at least as much is marked.
    absolute : float, optional
        In the measurement's unit: an increase of less is not marked, whatever its per cent, so that
        small regions do not progress by their noise. From a baseline of zero this alone decides.
    words : str
        What it means, such as "progression".
    """

    increase: Percent | None = None
    decrease: Percent | None = None
    absolute: float | None = Field(default=None, gt=0)
    words: str = Field(default="", max_length=40)

    @model_validator(mode="after")
    def _says_something(self) -> Threshold:
        if self.increase is None and self.decrease is None and self.absolute is None:
            raise ValueError("it says nothing; write `increase:`, `decrease:` or `absolute:`")
        return self


class Series(Frozen):
    """One quantity over a patient's exams, in table and plot.

    Attributes
    ----------
    quantity : str
        As the measurements name it.
    regions : tuple of str
        In this order; every region where left out.
    title : str
        What stands over it; the quantity where empty.
    baseline : {"first", "nadir"}
        From which exam changes are counted, until a reader chooses another.
    threshold : Threshold, optional
        Which changes are marked.
    repeatability : float, optional
        Per cent by which two measurements of the same state differ in 95 of 100 cases (the
        repeatability coefficient), written ``12%``; drawn as a band around the threshold.
    """

    quantity: str = "volume"
    regions: tuple[str, ...] = ()
    title: str = Field(default="", max_length=60)
    baseline: Literal["first", "nadir"] = "first"
    threshold: Threshold | None = None
    repeatability: Percent | None = None


class Page(Frozen):
    """What a case's page shows.

    Attributes
    ----------
    blocks : tuple of str
        What stands beside the images, from top to bottom: ``summary`` (the exam's own numbers,
        large), ``plot`` and ``measurements`` (a table) over all the patient's exams, ``findings``,
        the ``form``, the ``objects`` that were written, the ``provenance``, and a ``text``. A block
        that has nothing to show is left out.
    views : tuple of str
        What stands in the place of the images, the first one open; those that have nothing to show
        are left out.
    columns : tuple of str
        Of the table of measurements.
    series : tuple of Series
        Numbers over time; where left out, the volumes, or else each measured quantity.
    prior : bool
        Whether the viewer opens with the exam before it beside.
    text : str
        What the block ``text`` says: instructions to the reader.
    """

    blocks: Annotated[tuple[Block, ...], EachOnce] = (
        "text", "summary", "findings", "plot", "measurements", "form", "objects", "provenance",
    )  # fmt: skip
    views: Annotated[tuple[View, ...], EachOnce] = ("findings", "viewer", "captures")
    columns: Annotated[tuple[Column, ...], EachOnce] = (
        "date", "accession", "region", "source", "value", "change",
    )  # fmt: skip
    series: tuple[Series, ...] = ()
    prior: bool = True
    text: str = Field(default="", max_length=4000)
