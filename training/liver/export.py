"""Write the trained network as an ONNX model.

Run from the project's root: ``python -m training.liver.export RUN.pt``.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from rich.console import Console
from training.brain_tumour.export import strip
from training.liver.network import UNet, VolumeModel

MODEL = Path("src/overread/examples/lts/models/liver/1.0.0/model.onnx")
CONSOLE = Console(width=100)


def export(model: VolumeModel, path: Path) -> None:
    """Write the model with dynamic slices, rows and columns, and check it against PyTorch.

    Parameters
    ----------
    model : VolumeModel
        In evaluation mode.
    path : pathlib.Path
        Where to write.
    """
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (torch.rand(1, 1, 6, 96, 128),),
            input_names=["image"],
            output_names=["probability"],
            dynamic_shapes={"image": {2: dynamic, 3: dynamic, 4: dynamic}},
            opset_version=18,
            dynamo=True,
        )
    proto = program.model_proto
    strip(proto.graph)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in enumerate("ZYX", start=2):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 1, 64, 64), (1, 1, 9, 160, 96)):
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        (found,) = session.run(["probability"], {"image": image})
        with torch.inference_mode():
            expected = model(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)


def main() -> None:
    """Export the checkpoint named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, default=MODEL)
    args = parser.parse_args()
    network = UNet()
    network.load_state_dict(torch.load(args.checkpoint, weights_only=True)["average"])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    export(VolumeModel(network).eval(), args.output)
    content = args.output.read_bytes()
    CONSOLE.print(f"{args.output} {len(content) / 1e6:.2f} MB")
    CONSOLE.print(f"sha256 {hashlib.sha256(content).hexdigest()}", soft_wrap=True)


if __name__ == "__main__":
    main()
