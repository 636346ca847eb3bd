"""Exams of the phantom brain, liver donor and hip patients, as DICOM files.

To have some to send: ``python -m overread.simulator.exams liver FOLDER --seed 3``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from overread.dicom.volume import Volume
from overread.simulator.abdomen import SHAPE, SPACING, Abdomen, abdomen
from overread.simulator.instances import Order, make_instances, write
from overread.simulator.pelvis import Photometric, Radiograph, State, lateral, pelvis
from overread.simulator.phantoms import Phantom, phantom

_FIRST = datetime(2031, 3, 3, 8, 0)  # noqa: DTZ001 - DICOM's times carry no zone
_PELVIS = ("12921003", "SCT", "Pelvis")
_HIP = ("24136001", "SCT", "Hip joint")
# PS3.16 CID 4010 *DX View*
_AP = ("399348003", "SCT", "antero-posterior")
_LATERAL = ("399067008", "SCT", "lateral")


def brain_patient(seed: int) -> tuple[Phantom, list[Dataset]]:
    """Make a brain patient's MR: one axial T1-weighted series after contrast medium.

    Parameters
    ----------
    seed : int
        Which phantom patient.

    Returns
    -------
    Phantom
        The truth; its grid is the series'.
    list of Dataset
        The instances.
    """
    taken = phantom(3, seed=seed)
    order = Order(
        seed=f"brain patient {seed}",
        patient_id=f"BRAIN{seed:03d}",
        patient_name=f"Brain^Phantom {seed}",
        accession=f"BTS{seed:05d}",
        study_description="MRI BRAIN W CONTRAST",
        station_name="MRPILOT1",
        performed=_FIRST + timedelta(days=seed),
        modality="MR",
        patient_sex="O",
        series_description="AX T1 POST",
        series_number=2,
        attributes={"BodyPartExamined": "HEAD", "ContrastBolusAgent": "APPLIED"},
    )
    return taken, make_instances(taken.image, order)


def liver_donor(
    seed: int,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
) -> tuple[Abdomen, list[Dataset]]:
    """Make a liver donor's CT: a few slices before contrast medium, and the portal venous series.

    Parameters
    ----------
    seed : int
        Which phantom patient.
    shape, spacing : tuple
        Of the portal venous series, along (slice, row, column).

    Returns
    -------
    Abdomen
        The truth; its grid is the portal venous series'.
    list of Dataset
        The instances of both series.
    """
    taken = abdomen(seed, shape=shape, spacing=spacing)
    plain = abdomen(seed, shape=(8, *shape[1:]), spacing=(20.0, *spacing[1:]), divided=1).image
    common: dict[str, Any] = {
        "seed": f"liver donor {seed}",
        "patient_id": f"DONOR{seed:03d}",
        "patient_name": f"Donor^Phantom {seed}",
        "accession": f"LTS{seed:05d}",
        "study_description": "ABDOMEN LIVER DONOR WITH CONTRAST",
        "station_name": "CTPILOT1",
        "performed": _FIRST + timedelta(days=seed),
        "modality": "CT",
        "patient_sex": "O",
    }
    weight = {"PatientWeight": f"{taken.weight_kg:.1f}", "BodyPartExamined": "ABDOMEN"}
    portal = Order(
        **common,
        series_description="PORTAL VENOUS",
        series_number=3,
        attributes=weight | {"ContrastBolusAgent": "APPLIED"},
    )
    before = Order(**common, series_description="NATIVE", series_number=2, attributes=weight)
    return taken, [*make_instances(plain, before), *make_instances(taken.image, portal)]


def hip_patient(
    seed: int,
    *,
    states: tuple[State, State] | None = None,
    spacing: float | None = None,
    photometric: Photometric | None = None,
    one_series: bool | None = None,
) -> tuple[Radiograph, list[Dataset]]:
    """Make a hip patient's radiographs: the AP view of the pelvis, and a lateral one of a hip.

    Parameters
    ----------
    seed : int
        Which phantom patient.
    states, spacing, photometric
        As for `pelvis`.
    one_series : bool, optional
        Whether both views are in one series, as many units send them; by the seed if not given.

    Returns
    -------
    Radiograph
        The AP view and its truth.
    list of Dataset
        The lateral view first, then the AP view.
    """
    front = pelvis(seed, states=states, spacing=spacing, photometric=photometric)
    side = lateral(seed, spacing=front.spacing)
    together = seed % 2 == 0 if one_series is None else one_series
    made = []
    for number, (view, what) in enumerate(((side, "lateral"), (front, "AP")), start=1):
        is_front = what == "AP"
        order = Order(
            seed=f"hip patient {seed}",
            patient_id=f"HIP{seed:04d}",
            patient_name=f"Hip^Phantom {seed}",
            accession=f"HFD{seed:05d}",
            study_description="PELVIS AND HIP",
            series_description="PELVIS"
            if together
            else f"{'PELVIS' if is_front else 'HIP'} {what}",
            station_name="XRPILOT1",
            performed=_FIRST + timedelta(days=seed),
            modality="DX",
            patient_sex="O",
            series_number=1 if together else number,
            first_number=number if together else 1,
            attributes={
                "BodyPartExamined": "PELVIS" if is_front else "HIP",
                "ViewPosition": "AP" if is_front else "LL",
                "PatientOrientation": ["L", "F"] if is_front else ["A", "F"],
                "ImageLaterality": "B" if is_front else "R",
                "PhotometricInterpretation": view.photometric,
                "AnatomicRegionSequence": [_coded(*(_PELVIS if is_front else _HIP))],
                "ViewCodeSequence": [_coded(*(_AP if is_front else _LATERAL))],
            },
        )
        affine = np.diag([1.0, view.spacing, view.spacing, 1.0])
        made += make_instances(Volume(view.image[None], affine), order)
    return front, made


def _coded(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a phantom patient's exam into a folder."""
    parser = argparse.ArgumentParser(description="Write a phantom patient's exam.")
    parser.add_argument("what", choices=("brain", "liver", "hip"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="which patient")
    chosen = parser.parse_args(arguments)
    match chosen.what:
        case "brain":
            made = brain_patient(chosen.seed)[1]
        case "liver":
            made = liver_donor(chosen.seed)[1]
        case _:
            made = hip_patient(chosen.seed)[1]
    write(made, chosen.folder)


if __name__ == "__main__":
    main()
