"""Runtimes: what executes a model's weights. One extension point, one family of plugins."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from overread.pipelines.ports import Model


class Session(Protocol):
    """A model that is loaded and ready."""

    def predict(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model once.

        Parameters
        ----------
        array : ndarray, shape (1, 1, slices, rows, columns), float32
            One window of a normalised volume.

        Returns
        -------
        ndarray, shape (1, labels, slices, rows, columns), float32
            Probability of each label (one channel where the model has one label).
        """
        ...


class Runtime(Protocol):
    """A plugin of the family ``overread.runtimes``; made without arguments."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        ...

    def load(self, model: Model) -> Session:
        """Load the weights.

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, or the runtime cannot read it.
        """
        ...
