"""Write a trained hip network as an ONNX model.

Run from the project's root: ``python -m training.hip.export detector RUN.pt``.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from rich.console import Console
from torch import nn
from training.brain_tumour.export import strip
from training.hip.data import REGION, SIZE
from training.hip.network import BoxModel, HipClassifier, HipDetector, StateModel

MODELS = Path("src/overread/examples/hfd/models")
FILES = {
    "detector": MODELS / "hip-detector" / "1.0.0" / "model.onnx",
    "classifier": MODELS / "hip-class" / "1.0.0" / "model.onnx",
}
SHOWN = {
    "detector": (SIZE, ["boxes", "scores"]),
    "classifier": (REGION, ["probability"]),
}
CONSOLE = Console(width=100)


def load(what: str, checkpoint: Path) -> nn.Module:
    """Build the model to export from the running average in a checkpoint."""
    network: nn.Module = HipDetector() if what == "detector" else HipClassifier()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    model = BoxModel(network) if what == "detector" else StateModel(network)
    return model.eval()


def export(model: nn.Module, what: str, path: Path) -> None:
    """Write the model for one image, and check it against PyTorch."""
    size, outputs = SHOWN[what]
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (torch.rand(1, 1, size, size),),
            input_names=["image"],
            output_names=outputs,
            opset_version=18,
            dynamo=True,
        )
    proto = program.model_proto
    strip(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((1, 1, size, size), dtype=np.float32)
    found = session.run(outputs, {"image": image})
    with torch.inference_mode():
        expected = model(torch.from_numpy(image))
    for one, other in zip(found, expected if what == "detector" else [expected], strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=2e-3)


def main() -> None:
    """Export the checkpoint named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=tuple(FILES))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    path = args.output or FILES[args.what]
    path.parent.mkdir(parents=True, exist_ok=True)
    export(load(args.what, args.checkpoint), args.what, path)
    content = path.read_bytes()
    CONSOLE.print(f"{path} {len(content) / 1e6:.2f} MB")
    CONSOLE.print(f"sha256 {hashlib.sha256(content).hexdigest()}", soft_wrap=True)


if __name__ == "__main__":
    main()
