"""Runtimes: what executes a model's weights. One extension point, one family of plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from overread import registry
from overread.errors import StepFailed
from overread.pipelines.ports import Model

Tensors = Mapping[str, NDArray[Any]]
"""Named arrays, as the model's card names them."""

_SESSIONS: dict[tuple[str, str, str], Session] = {}
"""Loaded models by runtime, digest and device: a process that stays warm loads each once."""


class Session(Protocol):
    """A model that is loaded and ready."""

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Run the model once.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            The model's inputs by name; for a volume model one float32 array of shape
            (batch, channels, slices, rows, columns), for an image model (batch, channels, rows,
            columns).

        Returns
        -------
        dict of str to ndarray
            The model's outputs by name. What a segmentation model calls its output holds the
            probability of each label, shape (batch, labels, slices, rows, columns).
        """
        ...


class Runtime(Protocol):
    """A plugin of the family ``overread.runtimes``; made without arguments."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        ...

    def load(self, model: Model, device: str) -> Session:
        """Load the weights.

        Parameters
        ----------
        model : Model
            Its card and its verified file.
        device : str
            ``cpu``, or ``cuda:N``, as the worker chose.

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, or the runtime cannot read it.
        """
        ...


def session(model: Model, device: str) -> Session:
    """Return a model that is ready; loaded once by a process that stays warm.

    Raises
    ------
    StepFailed
        Its runtime is not there or cannot run here (it says what is missing), or cannot load it.
    """
    card = model.card
    key = (card.runtime, card.sha256, device)
    if key not in _SESSIONS:
        try:
            runtime: Runtime = registry.load("runtimes", card.runtime)()
        except KeyError:
            raise StepFailed(
                f"model {card.reference} needs the runtime {card.runtime}; there are "
                f"{registry.names('runtimes')}"
            ) from None
        if missing := runtime.available():
            raise StepFailed(f"model {card.reference} cannot run here: {missing}")
        _SESSIONS[key] = runtime.load(model, device)
    return _SESSIONS[key]
