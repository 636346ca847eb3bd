"""Runtimes: what executes a model's weights. One extension point, one family of plugins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from overread import registry
from overread.dicom.geometry import Affine
from overread.errors import StepFailed
from overread.pipelines.ports import Model

Tensors = Mapping[str, NDArray[Any]]
"""Named arrays, as the model's card names them."""

Precision = Literal["auto", "full", "half"]
"""``half`` where runtime and device have it; ``auto`` is half on a GPU, full on a CPU."""

_SESSIONS: dict[tuple[str, str, str, str, Precision], Session] = {}
"""Loaded models by runtime, name and version, digest, device and precision: a process that stays
warm loads each once."""


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

        Raises
        ------
        StepFailed
            The model does not take such inputs, or the server that runs it is away.
        """
        ...


@runtime_checkable
class VolumeSession(Session, Protocol):
    """A loaded model that brings its own way from a volume to a result."""

    def segment(self, array: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
        """Run the model's own transforms, windows and network over a volume.

        Parameters
        ----------
        array : ndarray, shape (slices, rows, columns), float32
            The volume, on its own grid.
        affine : ndarray, shape (4, 4)
            Index ``(slice, row, column)`` to LPS millimetres.

        Returns
        -------
        ndarray, shape (labels, slices, rows, columns), float32
            The probability of each label of the card, on the volume's grid.
        """
        ...


class Runtime(Protocol):
    """A plugin of the family ``overread.runtimes``; made without arguments."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        ...

    def load(self, model: Model, device: str, precision: Precision = "auto") -> Session:
        """Load the weights.

        Parameters
        ----------
        model : Model
            Its card and its verified file; of an ensemble one member.
        device : str
            ``cpu``, ``cuda:N``, or ``auto``: the first GPU that the runtime sees, else the CPU.
        precision : {"auto", "full", "half"}
            Of the arithmetic; a runtime that cannot choose takes the model as it is.

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, or the runtime cannot read it.
        """
        ...


class Ensemble:
    """Several networks of one kind: each runs, and what they give is averaged."""

    def __init__(self, members: Sequence[Session]) -> None:
        self._members = members

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Run each member once; see `Session`."""
        found = [member.run(inputs) for member in self._members]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def session(model: Model, device: str, precision: Precision = "auto") -> Session:
    """Return a model that is ready; loaded once by a process that stays warm.

    Parameters
    ----------
    model : Model
        Its card and its verified files.
    device : str
        ``cpu``, ``cuda:N`` or ``auto``.
    precision : {"auto", "full", "half"}
        Of the arithmetic; a runtime that cannot choose takes the model as it is.

    Raises
    ------
    StepFailed
        Its runtime is not there or cannot run here (it says what is missing), or cannot load it.
    """
    members = [_loaded(member, device, precision) for member in model.members]
    if len(members) == 1:
        return members[0]
    if any(isinstance(member, VolumeSession) for member in members):
        raise StepFailed(
            f"model {model.card.reference} has windows of its own, so it cannot be one of several "
            "folds; put them into one bundle"
        )
    return Ensemble(members)


def _loaded(model: Model, device: str, precision: Precision) -> Session:
    card = model.card
    key = (card.runtime, card.reference, card.sha256, device, precision)
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
        _SESSIONS[key] = runtime.load(model, device, precision)
    return _SESSIONS[key]


def read_weights(model: Model) -> bytes:
    """Read a model's file, and let it be used only if it is the one on its card.

    A runtime loads these very bytes: between a check and a second reading a file could change.

    Raises
    ------
    StepFailed
        Its SHA-256 digest is not the card's.
    """
    weights = model.file.read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    if digest != model.card.sha256:
        raise StepFailed(
            f"model {model.card.reference}: {model.file.name} has SHA-256 {digest}, its card "
            f"says {model.card.sha256}; a model that is not the one that was approved does not run"
        )
    return weights
