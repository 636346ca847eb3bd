"""A model of one node, its ONNX bytes written by hand, so that tests need no exporter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Model


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str) -> bytes:
    dims = b"".join(
        _field(1, _field(2, dim) if isinstance(dim, str) else _field(1, dim))
        for dim in (1, 1, "Z", "Y", "X")
    )
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def onnx_bytes(operation: str = "Identity") -> bytes:
    """``probability = operation(image)``, float32 (1, 1, Z, Y, X)."""
    node = _field(1, "image") + _field(2, "probability") + _field(4, operation)
    graph = (
        _field(1, node)
        + _field(2, "tiny")
        + _field(11, _tensor("image"))
        + _field(12, _tensor("probability"))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def tiny_model(folder: Path, operation: str = "Identity", **envelope: Any) -> Model:
    """Write a tiny model and describe it: a voxel's value is its probability."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = onnx_bytes(operation)
    file = folder / "model.onnx"
    file.write_bytes(weights)
    window = envelope.pop("window", (0, 32, 32))
    card = ModelCard.model_validate(
        {
            "name": "tiny",
            "version": "1.2.3",
            "file": "model.onnx",
            "sha256": hashlib.sha256(weights).hexdigest(),
            "input": {
                "modality": "MR",
                "spacing_mm": {"in_plane": [0.5, 1.2], "between_slices": [1.0, 7.0]},
                "window": window,
                "multiple": 16,
                **envelope,
            },
            "output": {
                "labels": [
                    {
                        "value": 1,
                        "name": "Tumour",
                        "category": {
                            "value": "49755003",
                            "scheme": "SCT",
                            "meaning": "Morphologically Abnormal Structure",
                        },
                        "type": {"value": "108369006", "scheme": "SCT", "meaning": "Neoplasm"},
                    }
                ]
            },
        }
    )
    return Model(card, file)
