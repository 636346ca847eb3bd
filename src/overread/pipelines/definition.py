"""A pipeline: an AE title, when an exam is complete, the steps, the results."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import ConfigDict, Field

from overread.dicom.match import Condition
from overread.settings import AETitle, Duration, Frozen

STAGES = ("development", "shadow", "validation", "clinical")
Stage = Literal["development", "shadow", "validation", "clinical"]


class RequiredSeries(Frozen):
    """A series that must be there before an exam is whole.

    Attributes
    ----------
    series : Condition
        What a series must say (`overread.dicom.match`).
    at_least : int
        How many series must satisfy it.
    instances : int
        How many instances each of them must have.
    """

    series: Condition
    at_least: int = Field(default=1, ge=1)
    instances: int = Field(default=1, ge=1)


class Complete(Frozen):
    """When an exam is whole.

    Attributes
    ----------
    by : {"study", "patient"}
        What gathers into one exam: the instances of one Study, or of one Patient within one
        arrival window.
    window : timedelta
        With ``by: patient``: how long after its first image an exam takes further studies in.
    quiet : timedelta
        Pause in arrivals after which an exam that has what it requires is closed.
    deadline : timedelta
        Since the first image; then the exam is closed whatever is missing, and says so.
    require : tuple of RequiredSeries
        What must have arrived.
    """

    by: Literal["study", "patient"] = "study"
    window: Duration = timedelta(minutes=30)
    quiet: Duration = timedelta(seconds=30)
    deadline: Duration = timedelta(hours=1)
    require: tuple[RequiredSeries, ...] = ()


class Step(Frozen):
    """The use of an operator in a pipeline.

    Attributes
    ----------
    use : str
        The operator's name.
    in_ : dict
        Input port to the step whose output it takes.
    with_ : dict
        The operator's settings.
    timeout : timedelta, optional
        Wall-clock limit; the site's ``engine.step_timeout`` where absent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    use: str
    in_: dict[str, str] = Field(default_factory=dict, alias="in")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    timeout: Duration | None = None


class Pipeline(Frozen):
    """The definition of a pipeline, as ``pipelines/*.yaml`` has it.

    Attributes
    ----------
    stage : str
        Decides which row of ``send`` applies, and whether pages say *investigational*.
    send : dict
        Stage to the destinations that the results go to.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    title: str = ""
    ae_title: AETitle
    stage: Stage = "validation"
    complete: Complete = Complete()
    steps: dict[str, Step] = Field(min_length=1)
    results: tuple[str, ...] = Field(min_length=1)
    send: dict[Stage, tuple[AETitle, ...]] = Field(default_factory=dict)
