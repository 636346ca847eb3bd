"""Site folders made by tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from textwrap import dedent

WEIGHTS = b"weights"

MAIN = """\
site: {name: Test}
destinations:
  PACS: {with: {host: 127.0.0.1, port: 11113}}
"""
ROUTES = """\
routes:
  - name: spots
    when: {Modality: MR}
    send_to: [SPOTS, PACS]
"""
PIPELINE = """\
name: bright-spots
version: 1.0.0
ae_title: SPOTS
steps:
  one: {use: select_series, with: {where: {Modality: MR}}}
  volume: {use: read_volume, in: {series: one}}
  mask: {use: threshold, in: {volume: volume}, with: {above: 100}}
  volumes: {use: measure_volumes, in: {mask: mask}}
results: [volumes]
send: {clinical: [PACS]}
"""
MODEL = f"""\
name: net
version: 1.0.0
file: net.onnx
sha256: {hashlib.sha256(WEIGHTS).hexdigest()}
input: {{modality: MR, spacing_mm: {{in_plane: [0.5, 1.5], between_slices: [1, 7]}}}}
output:
  labels:
    - value: 1
      name: tumour
      category: {{value: "49755003", scheme: SCT, meaning: Morphologically Abnormal Structure}}
      type: {{value: "108369006", scheme: SCT, meaning: Neoplasm}}
"""


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write files below a folder, with their indentation taken away."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else dedent(content).encode()
        file.write_bytes(data)
    return root


def whole(root: Path, **changed: str | bytes) -> Path:
    """Write a site without a fault; ``changed`` files (``main``, ``routes`` …) replace its own."""
    parts: dict[str, str | bytes] = {
        "main": MAIN, "routes": ROUTES, "pipeline": PIPELINE, "model": MODEL, "weights": WEIGHTS,
    }  # fmt: skip
    parts |= changed
    return write(
        root,
        {
            "overread.yaml": parts["main"],
            "routes.yaml": parts["routes"],
            "pipelines/spots.yaml": parts["pipeline"],
            "models/net/1.0.0/model.yaml": parts["model"],
            "models/net/1.0.0/net.onnx": parts["weights"],
        },
    )
