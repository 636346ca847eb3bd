"""What others need to write the same object, each as its own documentation shows it.

Run by `bench.writing`, each in a process of its own: ``python writing_peers.py NAME FOLDER``. The
folder holds ``images/`` (the series), ``labels.nii`` and ``labels.json``; ``made`` is written.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def labels(folder: Path) -> tuple[Any, Any]:
    """Read the mask, (slice, row, column) and uint8, and its affine in RAS."""
    import nibabel
    import numpy as np

    image: Any = nibabel.load(folder / "labels.nii")
    return np.asarray(image.dataobj).T, image.affine


def highdicom(folder: Path) -> None:
    """Write a Segmentation with highdicom alone."""
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    array, _ = labels(folder)
    sources = [dcmread(file) for file in sorted((folder / "images").iterdir())]
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="bench", version="1", family=codes.DCM.ArtificialIntelligence
            ),
        )
        for number, name in enumerate(json.loads((folder / "labels.json").read_text()), start=1)
    ]
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=array,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="bench",
        manufacturer_model_name="bench",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(folder / "made")


def rt_utils(folder: Path) -> None:
    """Write a structure set with rt-utils."""
    from rt_utils import RTStructBuilder  # type: ignore[import-not-found]  # has its own venv

    array, _ = labels(folder)
    made = RTStructBuilder.create_new(dicom_series_path=str(folder / "images"))
    for number, name in enumerate(json.loads((folder / "labels.json").read_text()), start=1):
        made.add_roi(mask=(array == number).transpose(1, 2, 0), name=name)
    made.save(str(folder / "made"))
    (folder / "made.dcm").replace(folder / "made")


def overread_seg(folder: Path) -> None:
    """Write a Segmentation with Overread."""
    from overread.dicom.seg import write_seg

    _overread(folder, write_seg)


def overread_rtstruct(folder: Path) -> None:
    """Write a structure set with Overread."""
    from overread.dicom.rtstruct import write_rtstruct

    _overread(folder, write_rtstruct)


def _overread(folder: Path, write: Callable[..., Any]) -> None:
    from datetime import UTC, datetime

    from pydicom import dcmread

    from overread.dicom.codes import TISSUE, Segment
    from overread.dicom.derived import Algorithm, Making
    from overread.dicom.study import Instance, Series
    from overread.dicom.volume import Mask

    names = json.loads((folder / "labels.json").read_text())
    segments = tuple(Segment(i, name, TISSUE, TISSUE) for i, name in enumerate(names, start=1))
    source = Series(
        tuple(
            Instance(dcmread(file, stop_before_pixels=True), file)
            for file in sorted((folder / "images").iterdir())
        )
    )
    making = Making(
        ("bench", write.__name__),
        datetime(2026, 11, 24, tzinfo=UTC),
        "UTC",
        Algorithm("bench", "1"),
        "1",
    )
    array, ras = labels(folder)
    lps = ras[:, [2, 1, 0, 3]] * [[-1], [-1], [1], [1]]
    mask = Mask(array, lps, segments)
    (folder / "made").write_bytes(write(mask, source, making).encode())


WARM_PASSES = 5
"""A collection of garbage falls into some of them; one pass alone would be luck."""

if __name__ == "__main__":
    write, into = globals()[sys.argv[1]], Path(sys.argv[2])
    write(into)
    if "--again" in sys.argv:
        passes = []
        for _ in range(WARM_PASSES):
            wall, processor = time.perf_counter(), time.process_time()
            write(into)
            passes.append((time.perf_counter() - wall, time.process_time() - processor))
        print(*(statistics.median(times) for times in zip(*passes, strict=True)))
