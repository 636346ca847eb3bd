"""MONAI bundles as files; running one needs MONAI (test_peers.py)."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread.errors import StepFailed
from overread.runtimes.bundle import METADATA, Bundle, card_of
from overread.runtimes.monai import channels, ras
from tests.dicom.series import affine
from tests.runtimes.tiny import tiny_model

SAID: dict[str, Any] = {
    "version": "0.5.8",
    "task": "Spleen segmentation",
    "authors": "A group",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1}},
        "outputs": {"pred": {"channel_def": {"0": "background", "1": "spleen", "2": "liver"}}},
    },
}


def zipped(
    said: Any = SAID, root: str = "spleen_ct/", more: Mapping[str, bytes] | None = None
) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as files:
        files.writestr(root + METADATA, json.dumps(said))
        for name, data in (more or {}).items():
            files.writestr(root + name, data)
    return content.getvalue()


@pytest.mark.parametrize("root", ["", "spleen_ct/", "a/b/"])
def test_a_bundle_is_found_wherever_it_lies_in_the_zip(root: str, tmp_path: Path) -> None:
    more = {"models/model.pt": b"weights", "scripts/x.py": b"", "configs/inference.json": b"{}"}
    bundle = Bundle.read(zipped(root=root, more=more))
    assert bundle.metadata == SAID
    assert bundle.has("models/model.pt")
    assert bundle.content("models/model.pt") == b"weights"
    bundle.unpack(tmp_path)
    found = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"configs/metadata.json", "configs/inference.json", "scripts/x.py"}


@pytest.mark.parametrize(
    "name", ["../outside.py", "scripts/../../outside.py", "/absolute.py", "scripts\\..\\..\\x.py"]
)
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    bundle = Bundle.read(zipped(root="b/", more={name: b"x"}))
    with pytest.raises(ValueError, match="leads out of its folder"):
        bundle.unpack(tmp_path / "in")
    assert not list(tmp_path.glob("*.py"))


def test_a_link_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO(zipped())
    with zipfile.ZipFile(content, "a") as files:
        link = zipfile.ZipInfo("spleen_ct/scripts")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        files.writestr(link, "/etc")
    with pytest.raises(ValueError, match="no plain file"):
        Bundle.read(content.getvalue()).unpack(tmp_path)


def test_what_unpacks_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.runtimes.bundle._UNPACKED_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="more than 1 MB"):
        Bundle.read(zipped(more={"docs/x": bytes(2 << 20)})).unpack(tmp_path)
    Bundle.read(zipped(more={"models/model.pt": bytes(2 << 20)})).unpack(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "it is no zip"),
        (zipped(more={"x/configs/metadata.json": b"{}"}), "holds 2 files"),
    ],
)
def test_what_is_no_bundle_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bundle.read(content)


def test_metadata_that_unpack_without_end_are_not_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr(METADATA, b" " * (17 << 20) + b"{}")
    assert len(packed.getvalue()) < 1 << 20
    with pytest.raises(ValueError, match="has 17825794 bytes"):
        card_of(packed.getvalue(), "x.zip")
    spoilt = packed.getvalue().replace(b"\0" * 8, b"\1" * 8)
    monkeypatch.setattr("overread.runtimes.bundle._METADATA_BYTES", 1 << 30)
    with pytest.raises(ValueError, match=r"cannot be unpacked|is no zip"):
        card_of(spoilt, "x.zip")


def test_its_metadata_becomes_the_card() -> None:
    card = card_of(zipped(), "spleen.zip")
    assert (card.reference, card.runtime, card.file) == ("spleen-ct@0.5.8", "monai", "spleen.zip")
    assert (card.title, card.manufacturer) == ("Spleen segmentation", "A group")
    assert card.input.modality == "CT"
    assert [(one.value, one.name) for one in card.output.labels] == [(1, "spleen"), (2, "liver")]
    assert card_of(zipped(), "x.zip", name="My Spleen", modality="PT").name == "my-spleen"


@pytest.mark.parametrize(
    ("image", "pred", "message"),
    [
        ({"modality": "CT", "num_channels": 4}, {"channel_def": {"1": "a"}}, "takes 4 channels"),
        ({"modality": "CT"}, {}, "what its outputs mean"),
        ({"modality": "n/a"}, {"channel_def": {"1": "a"}}, "modality is 'n/a'"),
    ],
)
def test_what_makes_no_card_is_said(image: Any, pred: Any, message: str) -> None:
    said = {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}}}
    with pytest.raises(ValueError, match=message):
        card_of(zipped(said), "x.zip")


def test_monai_sees_the_volume_as_its_nifti_reader_would(tmp_path: Path) -> None:
    import nibabel

    from overread.dicom.volume import Volume
    from overread.operators import files

    grid = affine((3, 0.9, 0.8), (12, -8, 20))
    grid[:3, :3] = grid[:3, [1, 2, 0]]
    array = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    files.save(Volume(array, grid), tmp_path)
    image: Any = nibabel.load(tmp_path / "image.nii")
    np.testing.assert_allclose(ras(grid), image.affine, atol=1e-5)
    np.testing.assert_array_equal(array.transpose(2, 1, 0), np.asarray(image.dataobj))


def test_what_a_bundle_gives_becomes_a_channel_for_each_label(tmp_path: Path) -> None:
    card = card_of(zipped(), "spleen.zip")
    labels = np.array([0, 1, 2, 2.0]).reshape(1, 1, 1, 4)
    expected = [[0, 1, 0, 0], [0, 0, 1, 1]]
    np.testing.assert_array_equal(channels(labels, card).reshape(2, 4), expected)
    soft = np.random.default_rng(0).random((3, 1, 1, 4))
    np.testing.assert_allclose(channels(soft, card), soft[1:].astype(np.float32))
    np.testing.assert_allclose(channels(soft[1:], card), soft[1:].astype(np.float32))
    with pytest.raises(StepFailed, match="gave 4 channels; its card has 2 labels"):
        channels(np.full((4, 1, 1, 1), 0.3), card)
    one = tiny_model(tmp_path).card
    np.testing.assert_allclose(channels(soft[:1], one), soft[:1].astype(np.float32))
