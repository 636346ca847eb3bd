"""Write the trained network as an ONNX model.

Run from the project's root: ``python -m training.liver.export RUN.pt``.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from rich.console import Console
from training.brain_tumour.export import export
from training.liver.network import UNet, VolumeModel

MODEL = Path("src/overread/examples/lts/models/liver/1.0.0/model.onnx")
CONSOLE = Console(width=100)


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
