"""Try the ONNX model on images of another collection: NRRD pairs of image and label.

Run from the project's root: ``python -m training.brain_tumour.outside FOLDER``, where FOLDER has
files such as ``brain1_image.nrrd`` and ``brain1_label.nrrd`` (the data of pyradiomics 3.0.1).
"""

import argparse
from pathlib import Path

import nrrd
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from training.brain_tumour.evaluate import dice, keep_components
from training.brain_tumour.export import MODEL
from training.brain_tumour.normalise import normalise_foreground

CONSOLE = Console(width=100)
MULTIPLE = 32


def read_axial(path: Path) -> tuple[NDArray, NDArray]:
    """Read an axial NRRD volume in the patient's axes.

    Parameters
    ----------
    path : pathlib.Path
        A file whose space is left-posterior-superior and whose directions are the axes.

    Returns
    -------
    tuple of numpy.ndarray
        Volume (Z, Y, X) in LPS order, and its spacing (3,) in mm, z first.
    """
    array, header = nrrd.read(str(path))
    assert header["space"] == "left-posterior-superior"
    directions = np.diag(header["space directions"])
    array = array[tuple(slice(None, None, int(np.sign(step))) for step in directions)]
    return array.transpose(2, 1, 0), np.abs(directions)[::-1]


def probability_of(session: onnxruntime.InferenceSession, raw: NDArray) -> NDArray[np.float32]:
    """Normalise and pad a volume, run the model and crop.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The model.
    raw : numpy.ndarray
        (Z, Y, X), LPS axial.

    Returns
    -------
    numpy.ndarray
        float32 (Z, Y, X), in 0 to 1.
    """
    padding = [(0, 0), *((0, -size % MULTIPLE) for size in raw.shape[1:])]
    image = np.pad(normalise_foreground(raw), padding)[None, None]
    (probability,) = session.run(["probability"], {"image": image})
    return probability[0, 0, :, : raw.shape[1], : raw.shape[2]]


def main() -> None:
    """Print a table with one row for each image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--least", type=int, default=50, help="voxels of the smallest component")
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    table = Table("image", "spacing, mm", "reference", "found", "Dice", "kept", "Dice, kept")
    for path in sorted(args.folder.glob("brain*_image.nrrd")):
        raw, spacing = read_axial(path)
        reference = read_axial(path.with_name(path.name.replace("image", "label")))[0] > 0
        found = probability_of(session, raw) > args.threshold
        kept = keep_components(found, args.least)
        masks = [f"{found.sum()}", f"{dice(found, reference):.3f}"]
        masks += [f"{kept.sum()}", f"{dice(kept, reference):.3f}"]
        size = " x ".join(f"{step:.2f}" for step in spacing)
        table.add_row(path.name[:6], size, f"{reference.sum()}", *masks)
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
