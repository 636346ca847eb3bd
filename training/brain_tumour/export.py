"""Write trained networks as one ONNX model.

Run from the project's root: ``python -m training.brain_tumour.export RUN.pt [RUN.pt ...]``.
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
from training.brain_tumour.network import UNet, VolumeModel

MODEL = Path("src/overread/examples/bts/models/brain-tumour/1.0.0/model.onnx")
CONSOLE = Console(width=100)


def load_members(checkpoints: list[Path]) -> VolumeModel:
    """Build the exported model from the running averages in checkpoints of `train`.

    Parameters
    ----------
    checkpoints : list of pathlib.Path
        One or more.

    Returns
    -------
    VolumeModel
        In evaluation mode.
    """
    members = []
    for path in checkpoints:
        member = UNet()
        member.load_state_dict(torch.load(path, weights_only=True)["average"])
        members.append(member)
    return VolumeModel(members).eval()


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """List a graph and all graphs inside its nodes."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *(part for each in inner for part in graphs(each))]


def strip(graph: onnx.GraphProto) -> None:
    """Take out what the exporter leaves behind: source paths, inferred shapes, unused weights.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place, the graphs inside it too.
    """
    every = graphs(graph)
    used = {name for part in every for node in part.node for name in node.input}
    for part in every:
        keep = [weight for weight in part.initializer if weight.name in used]
        del part.value_info[:], part.initializer[:]
        part.initializer.extend(keep)
        for item in (part, *part.node, *part.input, *part.output, *part.initializer):
            del item.metadata_props[:]
            item.doc_string = ""


def export(model: nn.Module, path: Path) -> None:
    """Write the model with dynamic slices, rows and columns, and check it against PyTorch.

    Parameters
    ----------
    model : torch.nn.Module
        A volume model: (1, 1, Z, Y, X) in, (1, labels, Z, Y, X) out. In evaluation mode.
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
        image = 2 * np.random.default_rng(0).random(shape, dtype=np.float32)
        (found,) = session.run(["probability"], {"image": image})
        with torch.inference_mode():
            expected = model(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)


def main() -> None:
    """Export the checkpoints named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=MODEL)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    export(load_members(args.checkpoints), args.output)
    content = args.output.read_bytes()
    CONSOLE.print(f"{args.output} {len(content) / 1e6:.2f} MB")
    CONSOLE.print(f"sha256 {hashlib.sha256(content).hexdigest()}", soft_wrap=True)


if __name__ == "__main__":
    main()
