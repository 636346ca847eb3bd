"""Tiny detectors and classifiers, their ONNX bytes written by hand, and images to look at."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.image import Image
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Context, Model
from tests.runtimes.tiny import _field

AT = datetime(2026, 6, 2, 9, 30, tzinfo=UTC)
CODE = {"value": "24136001", "scheme": "SCT", "meaning": "Hip joint structure"}
RIGHT = {"value": "24028007", "scheme": "SCT", "meaning": "Right"}


def context(step: str = "step", **facts: Any) -> Context:
    return Context("job", step, AT, "hips", "1.0.0", **facts)


def bright(shape: tuple[int, int], *boxes: tuple[int, int, int, int], **facts: Any) -> Image:
    """A dark image with bright boxes (x0, y0, x1, y1)."""
    array = np.zeros(shape, np.float32)
    for x0, y0, x1, y1 in boxes:
        array[y0:y1, x0:x1] = 1
    return Image(array, **{"uid": "1.2.3", "modality": "DX", **facts})


def card(task: str, labels: list[str], weights: bytes = b"", **output: Any) -> ModelCard:
    names = {"boxes": "boxes", "scores": "scores"} if task == "detection" else {}
    return ModelCard.model_validate(
        {
            "name": f"tiny-{task}",
            "version": "1.0.0",
            "task": task,
            "file": "model.onnx",
            "sha256": hashlib.sha256(weights).hexdigest(),
            "input": {"modality": "DX", "size": [64, 64]},
            "output": {
                **names,
                **output,
                "labels": [
                    {"value": number, "name": name, "category": CODE, "type": CODE,
                     "anatomy": RIGHT, "colour": [10 * number, 20, 30]}
                    for number, name in enumerate(labels, start=1)
                ],
            },
        }
    )  # fmt: skip


def constant_model(
    folder: Path, task: str, labels: list[str], tensors: dict[str, NDArray[Any]], **output: Any
) -> Model:
    """A model that says the same of every image: real weights, in a real runtime."""
    nodes, outputs = b"", b""
    for name, values in tensors.items():
        dims = b"".join(_field(1, size) for size in values.shape)
        raw = values.astype("<f4").tobytes()
        tensor = dims + _field(2, 1) + _field(9, raw)
        attribute = _field(1, "value") + _field(5, tensor) + _field(20, 4)
        nodes += _field(1, _field(2, name) + _field(4, "Constant") + _field(5, attribute))
        outputs += _field(12, _value(name, values.shape))
    graph = nodes + _field(2, "tiny") + _field(11, _value("image", (1, 1, 64, 64))) + outputs
    weights = _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(weights)
    return Model(card(task, labels, weights, **output), folder / "model.onnx")


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


class BoxFinder:
    """A session that really looks: one box around each bright thing, scored by its brightness."""

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from scipy import ndimage

        picture = inputs["image"][0, 0]
        labelled, _ = ndimage.label(picture > 0.5)
        places = ndimage.find_objects(labelled)
        boxes = [(x.start, y.start, x.stop, y.stop) for y, x in places]
        scores = [(float(picture[place].max()) * 0.9,) for place in places]
        return {
            "boxes": np.array(boxes, np.float32).reshape(1, -1, 4),
            "scores": np.array(scores, np.float32).reshape(1, -1, 1),
        }
