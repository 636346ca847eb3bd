"""Programs that somebody else has packed: a container image, or a program of this machine."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from overread.dicom.codes import Segment
from overread.dicom.image import Images
from overread.dicom.provenance import DerivedObject
from overread.dicom.volume import Mask, Probability, Volume
from overread.operators import exchange
from overread.pipelines.ports import Account, Chosen, Context, Outside
from overread.settings import Size
from overread.validation.results import (
    Classification,
    ClinicalValues,
    Detections,
    Measurements,
)

KINDS: dict[str, type] = {
    "volume": Volume,
    "mask": Mask,
    "probability": Probability,
    "images": Images,
    "measurements": Measurements,
    "detections": Detections,
    "classification": Classification,
    "values": ClinicalValues,
    "dicom": DerivedObject,
}
"""What a program may make, by the word of the setting ``makes``."""

Kind = Literal[
    "volume", "mask", "probability", "images", "measurements", "detections", "classification",
    "values", "dicom",
]  # fmt: skip

Made = Annotated[
    Volume
    | Mask
    | Probability
    | Images
    | Measurements
    | Detections
    | Classification
    | ClinicalValues
    | DerivedObject,
    Chosen("makes", KINDS),
]

_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}")


def _pinned(image: str) -> str:
    if not _IMAGE.fullmatch(image):
        raise ValueError(
            f"{image!r} does not say which image it is, once and for all; "
            "write NAME@sha256:DIGEST, since a tag can be moved"
        )
    return image


def _absolute(program: str) -> str:
    if not program.startswith("/") or "/../" in f"{program}/":
        raise ValueError(f"{program!r} is no path of a program; write an absolute one")
    return program


PinnedImage = Annotated[str, AfterValidator(_pinned)]
"""``NAME@sha256:DIGEST``: the digest of the image's manifest, or of its configuration (its id)."""

ProgramPath = Annotated[str, AfterValidator(_absolute)]

Environment = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], str], Field(max_length=100)
]


def container(
    context: Context,
    account: Account,
    outside: Outside,
    *,
    image: PinnedImage,
    makes: Kind,
    contract: Literal["folders", "map"] = "folders",
    command: tuple[str, ...] = (),  # noqa: ARG001
    environment: Environment | None = None,  # noqa: ARG001
    parameters: dict[str, JsonValue] | None = None,
    segments: tuple[Segment, ...] = (),
    unit: str = "1",
    file: str = "",
    grid: Literal["input", "own"] = "input",
    memory: Size | None = None,  # noqa: ARG001
    gpu: bool = False,  # noqa: ARG001
    **inputs: Any,
) -> Made:
    """Run a container image over files.

    The image is one that the machine's container engine (Docker or podman) has already; it is
    never fetched. It runs without network, on a read-only root, as a user without any rights and
    with the limits of the step on time, memory, processes and disk; ``/tmp`` can be written to. It
    finds

    - ``/in/PORT/``: each input, as Overread keeps it between steps: ``port.json`` with
      ``image.nii``, ``measurements.json`` and so on; for a series its DICOM files;
    - ``/params.json``: what ``parameters`` says;
    - ``/out/``: empty; what it leaves there is what the step makes.

    It makes what ``makes`` says: a NIfTI file (``.nii``, ``.nii.gz``) for a volume or a mask, on
    the voxels of an input, in any order of the axes; a DICOM Segmentation for a mask; DICOM for
    ``dicom``; ``measurements.json``, ``detections.json``, ``classification.json`` or
    ``clinicalvalues.json``; or all that Overread itself would have written, with ``port.json``.
    Nothing of it is trusted: links, other patients' images, wrong grids, values without a segment
    end the step. What it prints stands in the step's log.

    Parameters
    ----------
    **inputs
        Any number of inputs, however called.
    image : str
        ``NAME@sha256:DIGEST``; the digest of its manifest or its id. The name is for people.
    makes : str
        ``volume``, ``mask``, ``probability``, ``images``, ``measurements``, ``detections``,
        ``classification``, ``values`` or ``dicom``.
    contract : {"folders", "map"}
        ``map`` for a MONAI Application Package: it takes series, and finds and leaves DICOM where
        its manifest (``app.json``) says.
    command : tuple of str
        In place of the image's own command.
    environment : dict of str to str, optional
        Further variables.
    parameters : dict, optional
        Becomes ``/params.json``.
    segments : tuple of Segment
        What the values of a mask stand for: ``number``, ``label``, ``category``, ``type``.
    unit : str
        UCUM unit of a volume's values.
    file : str
        Which file of ``/out`` is meant, where there are several: ``*_seg.nii.gz``.
    grid : {"input", "own"}
        Whether a volume or mask must lie on the voxels of an input, or may have its own.
    memory : int, optional
        Bytes, such as ``4GB``; as the site's ``engine.memory`` if absent.
    gpu : bool
        Whether it is given the worker's GPU.

    Raises
    ------
    StepFailed
        There is no container engine, or no such image in it; the program ended with another exit
        code than 0, took too long or too much; what it left is not what it was to make.
    """
    name, _, digest = image.partition("@")
    exchange.lay_in(inputs, parameters, outside.folder, as_map=contract == "map")
    account.notes += [f"image {image}", *outside()]
    made: Made = exchange.take(
        outside.folder / exchange.OUT,
        exchange.Wanted(KINDS[makes], segments, unit, file, grid == "own"),
        inputs,
        context,
        model=f"{name.rpartition('/')[2].partition(':')[0]}@{digest[:19]}",
    )
    return made


def process(
    context: Context,
    account: Account,
    outside: Outside,
    *,
    program: ProgramPath,
    makes: Kind,
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = "",  # noqa: ARG001
    arguments: tuple[str, ...] = (),  # noqa: ARG001
    environment: Environment | None = None,  # noqa: ARG001
    parameters: dict[str, JsonValue] | None = None,
    segments: tuple[Segment, ...] = (),
    unit: str = "1",
    file: str = "",
    grid: Literal["input", "own"] = "input",
    memory: Size | None = None,  # noqa: ARG001
    gpu: bool = False,  # noqa: ARG001
    **inputs: Any,
) -> Made:
    """Run a program of this machine over files, where there is no container engine.

    The same contract as `container`'s: ``/in/PORT/``, ``/params.json`` and ``/out``. The program
    runs under bubblewrap: without network, on a read-only system (``/usr``, ``/opt``, and the
    folders that the site names in ``engine.programs``), and sees nothing of the site and of other
    users' homes.

    ::

        use: process
        in: {ct: volume}      # any names: the program finds /in/ct/image.nii
        with:
          program: /opt/liver/segment
          makes: mask         # it leaves one .nii in /out, on the voxels of ct
          parameters: {threshold: 0.5}
          segments:
            - number: 1
              label: Liver
              category: {value: "123037004", scheme: SCT, meaning: Anatomical Structure}
              type: {value: "10200004", scheme: SCT, meaning: Liver}

    Parameters
    ----------
    **inputs
        Any number of inputs, however called.
    program : str
        Its absolute path.
    makes : str
        ``volume``, ``mask``, ``probability``, ``images``, ``measurements``, ``detections``,
        ``classification``, ``values`` or ``dicom``; how it leaves each, `container` says.
    sha256 : str
        SHA-256 of the program's file; another one is not run. What the program itself loads is not
        covered by it.
    arguments : tuple of str
        Of its command line.
    environment : dict of str to str, optional
        Further variables.
    parameters : dict, optional
        Becomes ``/params.json``.
    segments : tuple of Segment
        What the values of a mask stand for: ``number``, ``label``, ``category``, ``type``.
    unit : str
        UCUM unit of a volume's values.
    file : str
        Which file of ``/out`` is meant, where there are several.
    grid : {"input", "own"}
        Whether a volume or mask must lie on the voxels of an input, or may have its own.
    memory : int, optional
        Bytes, such as ``4GB``; as the site's ``engine.memory`` if absent.
    gpu : bool
        Whether it is given the machine's NVIDIA GPUs.

    Raises
    ------
    StepFailed
        As for `container`.
    """
    exchange.lay_in(inputs, parameters, outside.folder)
    notes = outside()
    account.notes += notes
    made: Made = exchange.take(
        outside.folder / exchange.OUT,
        exchange.Wanted(KINDS[makes], segments, unit, file, grid == "own"),
        inputs,
        context,
        model=f"{program.rpartition('/')[2]}@{notes[0].rpartition(' ')[2][:19]}",
    )
    return made
