from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from overread.dicom.image import Image, Images
from overread.dicom.study import Exam, Instance, Series
from overread.dicom.volume import Volume, read_volume
from overread.errors import Refused
from overread.operators.check_input import (
    check_images,
    check_input,
    facts_of_image,
    facts_of_volume,
    words_of,
)
from overread.pipelines.envelope import learn
from overread.pipelines.model import Envelope
from overread.pipelines.ports import Account, Model
from overread.simulator.fruit import FRUIT, fruit
from overread.simulator.images import read_image
from overread.simulator.phantoms import phantom
from overread.site.models import read_models
from tests.conftest import ROOT
from tests.dicom.series import affine, images, keep
from tests.runtimes.tiny import tiny_model

BTS = read_models(ROOT / "src" / "overread" / "examples" / "bts", verify=False)[0][
    "brain-tumour@1.0.0"
]
TRAINING = ("01", "02", "04", "06", "11")
HELD_OUT = ("03", "07")


def forged(volume: Volume, folder: Path) -> tuple[Volume, Series]:
    """The volume as a DICOM series whose headers say all that the model's card asks for."""

    def edit(_index: int, one: Any) -> None:
        one.BodyPartExamined = "BRAIN"
        one.ContrastBolusAgent = "Gadovist"

    array = volume.array.astype(np.int16)
    series = keep(images(array, volume.affine, edit=edit), folder)
    return read_volume(series), series


def brain(shared_data: Path, patient: str, time: str) -> Volume:
    """A scan whose spacing was lost, on the grid that is estimated for it."""
    volume = read_image(shared_data / "brain_tumour" / patient / f"{time}_Scan_T1.nii.gz")
    grid = volume.affine.copy()
    grid[:3, :3] *= np.array([6.5, 0.86, 0.86]) / np.linalg.norm(grid[:3, :3], axis=0)
    return replace(volume, affine=grid, modality="MR")


@pytest.mark.parametrize("name", FRUIT)
def test_a_fruit_gets_no_brain_volume_whatever_its_headers_say(name: str, tmp_path: Path) -> None:
    volume, series = forged(fruit(name), tmp_path)
    with pytest.raises(Refused, match=r"not what model brain-tumour@1\.0\.0 was made for") as told:
        check_input(volume, series, Account(), model=BTS)
    assert str(told.value).count("made for") > 2  # more than one thing tells it from a head


def test_the_drawn_head_passes(tmp_path: Path) -> None:
    account = Account()
    volume, series = forged(phantom(5).image, tmp_path)
    assert check_input(volume, series, account, model=BTS) is volume
    assert account.used == [(series.uid, "lies within the envelope of model brain-tumour@1.0.0")]
    assert any(note.startswith("rind 2.") for note in account.notes)


@pytest.mark.parametrize("patient", HELD_OUT)
@pytest.mark.parametrize("time", ["Pre", "Post"])
def test_real_heads_that_nothing_was_learnt_from_pass(
    patient: str, time: str, shared_data: Path, tmp_path: Path
) -> None:
    volume, series = forged(brain(shared_data, patient, time), tmp_path)
    assert check_input(volume, series, Account(), model=BTS) is volume


def test_the_card_states_what_is_learnt_from_the_training_scans(shared_data: Path) -> None:
    """Every range that the card has holds what `overread model profile` learns, or is it."""
    known = [
        facts_of_volume(brain(shared_data, patient, time))
        for patient in TRAINING
        for time in ("Pre", "Post")
    ]
    learnt = Envelope.model_validate(learn(known, 0.5, {"solid": 1, "smoothness": 1}))
    stated = BTS.card.input.statistics
    assert set(stated) == set(learnt.statistics)
    for name, (low, high) in learnt.statistics.items():
        if name.endswith("_mm"):
            assert stated[name][0] <= low and stated[name][1] >= high
        else:
            assert stated[name] == pytest.approx((low, high), abs=1e-3), name


def test_a_real_head_without_contrast_agent_and_thin_slices_is_refused_with_each_reason(
    shared_data: Path,
) -> None:
    files = sorted((shared_data / "brain_t1" / "dicoms").glob("*.dcm"))
    series = Series(tuple(Instance(dcmread(one, stop_before_pixels=True), one) for one in files))
    volume = read_volume(series)
    with pytest.raises(Refused) as told:
        check_input(volume, series, Account(), model=BTS)
    assert "nothing says that a contrast agent was given" in str(told.value)
    assert "0.70 mm between slices" in str(told.value) or "0.67 mm between" in str(told.value)
    assert "brightness 3 to 6 mm below the surface (rind) is 0.4" in str(told.value)


@pytest.mark.parametrize("folder", ["generic_compressed_001", "hyperfine_anatomical_001"])
def test_a_real_file_of_noise_is_refused(folder: str, shared_data: Path) -> None:
    files = (shared_data / "dicom_variants" / "dicom2nifti" / folder).rglob("*")
    series = Series(
        tuple(
            Instance(dcmread(one, stop_before_pixels=True), one)
            for one in sorted(files)
            if one.is_file()
        )
    )
    with pytest.raises(Refused, match=r"\(smoothness\) is"):
        check_input(read_volume(series), series, Account(), model=BTS)


def test_a_ct_is_measured_in_hounsfield_units(shared_data: Path) -> None:
    files = sorted((shared_data / "ct_liver" / "dicom").glob("*.dcm"))
    series = Series(tuple(Instance(dcmread(one, stop_before_pixels=True), one) for one in files))
    found = facts_of_volume(read_volume(series), series)
    assert found.modality == "CT"
    assert found.plane == "axial"
    assert found.slices == 20
    assert found.spacing_mm is not None and found.spacing_mm[0] == pytest.approx(2)
    statistics = found.statistics or {}
    assert 30 < statistics["inside"] < 150
    assert -200 < statistics["dark"] < 0
    with pytest.raises(Refused, match="the images are CT"):
        check_input(read_volume(series), series, Account(), model=BTS)


def test_a_card_that_asks_for_little_says_so(tmp_path: Path) -> None:
    account = Account()
    series = keep(images(np.zeros((4, 8, 8), np.int16), affine()), tmp_path / "in")
    check_input(read_volume(series), series, account, model=tiny_model(tmp_path))
    assert account.notes == [
        "the model's card declares no statistics: values of voxels were not looked at"
    ]


def test_words_are_gathered_from_every_series_and_place(tmp_path: Path) -> None:
    def edit(index: int, one: Any) -> None:
        one.SeriesInstanceUID = f"1.2.{index}"
        one.SeriesDescription = f"T1 {index}"
        one.StudyDescription = "MR HEAD"
        one.AnatomicRegionSequence = [dataset(CodeValue="12738006", CodeMeaning="Brain")]
        one.ContrastBolusAgentSequence = [dataset(CodeValue="1", CodeMeaning="Gadobutrol")]

    series = keep(images(np.zeros((2, 4, 4), np.int16), affine(), edit=edit), tmp_path)
    words = words_of(series)
    assert words.body_parts == ("12738006", "Brain")
    assert words.descriptions["SeriesDescription"] == "T1 0, T1 1"
    assert words.agent == "Gadobutrol"


def dataset(**values: str) -> Any:
    from pydicom import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def an_image(seed: int, **facts: Any) -> tuple[Image, Instance]:
    rows = np.abs(np.linspace(-1, 1, 200))
    noise = np.random.default_rng(seed).normal(0, 0.02, (300, 200))
    array = (np.outer(np.linspace(1, 2, 300), rows) + noise).astype(np.float32)
    uid = f"1.2.{seed}"
    header = dataset(SOPInstanceUID=uid, SeriesInstanceUID="1.9", BodyPartExamined="PELVIS")
    image = Image(array, uid, spacing=(0.15, 0.15), modality="DX", view="AP")
    return replace(image, **facts), Instance(header)


def radiograph_model(tmp_path: Path) -> Model:
    known = [facts_of_image(*an_image(seed)) for seed in range(4)]
    envelope = learn(known, 0.5)
    assert envelope["views"] == ["AP"]
    model = tiny_model(tmp_path)
    card = model.card.model_copy(update={"input": Envelope.model_validate(envelope)})
    return replace(model, card=card)


def test_radiographs_pass_and_the_one_that_does_not_is_named(tmp_path: Path) -> None:
    model = radiograph_model(tmp_path)
    good, header = an_image(9)
    account = Account()
    given = Images((good,))
    assert check_images(given, Exam((header,)), account, model=model) is given
    assert account.used == [("1.2.9", "lies within the envelope of tiny@1.2.3")]
    lateral, other = an_image(8, view="LAT", spacing=(0.5, 0.5))
    with pytest.raises(Refused) as told:
        check_images(Images((good, lateral)), Exam((header, other)), Account(), model=model)
    assert "image 1.2.8: these images are not what" in str(told.value)
    assert "the view is LAT (made for AP)" in str(told.value)
    assert "0.50 mm between rows" in str(told.value)
    assert "1.2.9" not in str(told.value)
    noise = replace(good, array=np.random.default_rng(1).normal(size=(300, 200)).astype("f4"))
    with pytest.raises(Refused, match="likeness of neighbouring pixels"):
        check_images(Images((noise,)), Exam((header,)), Account(), model=model)
