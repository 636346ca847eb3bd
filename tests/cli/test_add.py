"""A card and its weights become a model of the site."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.errors import SiteError, UsageError
from overread.site import load
from tests.site.sites import MODEL, WEIGHTS, whole

DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
CARD = MODEL.replace("name: net\n", "name: other\n", 1)
BARE = "# of a person\n" + "".join(
    line for line in CARD.splitlines(True) if not line.startswith(("file:", "sha256:"))
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "weights.onnx").write_bytes(WEIGHTS)
    return whole(tmp_path / "site")


def add(site: Path, card: str, *weights: str) -> str:
    (site.parent / "card.yaml").write_text(card)
    files = [str(site.parent / one) for one in weights or ("weights.onnx",)]
    command = ["model", "add", str(site.parent / "card.yaml"), *files, "--site", str(site)]
    return CliRunner().invoke(app, command, catch_exceptions=False).stdout


def test_a_card_without_digest_gets_it(site: Path) -> None:
    assert add(site, BARE).split() == ["other@1.0.0,", "SHA-256", DIGEST]
    folder = site / "models" / "other" / "1.0.0"
    assert {one.name for one in folder.iterdir()} == {"model.yaml", "weights.onnx"}
    written = (folder / "model.yaml").read_text()
    assert written.startswith("# of a person\nname: other\n")
    assert written.endswith(f"file: weights.onnx\nsha256: {DIGEST}\n")
    model = load(site, {}, verify=True).models["other@1.0.0"]
    assert model.file.read_bytes() == WEIGHTS
    assert not [one for one in site.iterdir() if one.name.startswith(".")]


def test_a_whole_card_is_kept_to_the_byte(site: Path) -> None:
    add(site, CARD)
    folder = site / "models" / "other" / "1.0.0"
    assert (folder / "model.yaml").read_text() == CARD
    assert (folder / "net.onnx").read_bytes() == WEIGHTS  # as the card calls it


def test_an_ensemble(site: Path) -> None:
    (site.parent / "fold.onnx").write_bytes(b"fold")
    fold = f"folds: [{{file: fold.onnx, sha256: {hashlib.sha256(b'fold').hexdigest()}}}]\n"
    with pytest.raises(UsageError, match=r"names 2 files of weights .*, and 1 were given"):
        add(site, BARE + fold)
    add(site, BARE + fold, "weights.onnx", "fold.onnx")
    assert len(load(site, {}, verify=True).models["other@1.0.0"].folds) == 1


def test_nothing_that_is_there_is_replaced(site: Path) -> None:
    add(site, BARE)
    assert DIGEST in add(site, BARE)  # the same again changes nothing
    with pytest.raises(UsageError, match=r"with another model\.yaml; .* gets a new version"):
        add(site, BARE + "title: Another\n")
    (site.parent / "weights.onnx").write_bytes(b"other weights")
    with pytest.raises(UsageError, match=r"other@1\.0\.0 is there already"):
        add(site, BARE)
    assert load(site, {}, verify=True).models["other@1.0.0"].card.sha256 == DIGEST


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (CARD.replace(DIGEST, "f" * 64), rf"card.yaml:4: the SHA-256 of net.onnx is {DIGEST}"),
        (BARE + "runtime: onyx\n", "there is no runtime 'onyx'.*perhaps onnx"),
        (BARE.replace("version: 1.0.0", "version: one"), "card.yaml:3: version: 'one'"),
        (BARE + "titel: x\n", "unknown key titel.*title"),
        ("- a list\n", "a mapping"),
        (BARE + "a: [\n", "card.yaml"),
    ],
)
def test_a_wrong_card(site: Path, card: str, message: str) -> None:
    with pytest.raises(SiteError, match=message):
        add(site, card)
    assert {one.name for one in (site / "models").iterdir()} == {"net"}
    assert not [one for one in site.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize("place", ["../net.onnx", "model.yaml", "."])
def test_weights_lie_in_the_model_s_folder(site: Path, place: str) -> None:
    with pytest.raises(UsageError, match="no place for weights"):
        add(site, CARD.replace("file: net.onnx", f"file: {place}"))
    with pytest.raises(UsageError, match="there is no file"):
        add(site, CARD, "nowhere.onnx")
