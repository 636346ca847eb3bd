"""What each state of a case means to the person who looks at it, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from overread.store.cases import Case, CaseState


@dataclass(frozen=True)
class Advice:
    """A state, said to a clinician.

    Attributes
    ----------
    tone : str
        ``busy``, ``ok``, ``none``, ``warn`` or ``bad``: which colour it has.
    title, text : str
        What is so.
    steps : tuple of str
        What to do next.
    """

    tone: str
    title: str
    text: str
    steps: tuple[str, ...] = ()


_BY_ITSELF = "Nothing to do: this page changes by itself."
_READ_WITHOUT = "Read the exam as usual, without the model."

ADVICE: dict[CaseState, Advice] = {
    CaseState.ARRIVING: Advice(
        "busy", "Arriving", "Images are still coming; the exam is not complete yet.", (_BY_ITSELF,)
    ),
    CaseState.HELD: Advice(
        "warn",
        "Not run: held",
        "The model was not run, because these images may not belong together.",
        (_READ_WITHOUT, "An engineer of this site has to settle which patient they are of."),
    ),
    CaseState.WAITING: Advice(
        "busy", "Complete", "The exam is complete; its job is about to be opened.", (_BY_ITSELF,)
    ),
    CaseState.QUEUED: Advice("busy", "Queued", "The job waits for its turn.", (_BY_ITSELF,)),
    CaseState.RUNNING: Advice("busy", "Running", "The job is running.", (_BY_ITSELF,)),
    CaseState.DONE: Advice("ok", "Done", "The job has made its results."),
    CaseState.NOTHING_FOUND: Advice(
        "none",
        "Nothing found",
        "The model ran on this exam to its end and marked nothing.",
        (
            "Look at the images as usual: what a model does not mark may still be there.",
            "If something is plain to see, tell the engineers of this site which case it is.",
        ),
    ),
    CaseState.REFUSED: Advice(
        "warn",
        "Refused",
        "The exam is not what this pipeline may be given, so the model was not run on it.",
        (
            _READ_WITHOUT,
            "If the exam should fit, ask an engineer to look at the job.",
        ),
    ),
    CaseState.FAILED: Advice(
        "bad",
        "Failed",
        "Something broke while the job ran. The images are safe; there is no result.",
        (_READ_WITHOUT, "An engineer can run the job again once the cause is mended."),
    ),
    CaseState.CANCELLED: Advice(
        "warn",
        "Cancelled",
        "Somebody stopped the job before its end; there is no result.",
        (_READ_WITHOUT, "An engineer can run the job again."),
    ),
}


def advice(case: Case) -> Advice:
    """Return what to say of a case."""
    return ADVICE[case.state]
