"""A MONAI bundle becomes a model of the site."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from overread.cli.main import app
from overread.site import load
from tests.runtimes.test_bundle import zipped
from tests.site.sites import whole


def test_a_bundle_is_imported_once(tmp_path: Path) -> None:
    site = whole(tmp_path / "site")
    file = tmp_path / "spleen.zip"
    file.write_bytes(zipped())
    command = ["model", "import-bundle", str(file), "--site", str(site)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "give each label its codes" in result.output
    model = load(site, {}, verify=True).models["spleen-ct@0.5.8"]
    assert model.file.read_bytes() == file.read_bytes()
    assert model.card.runtime == "monai"
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "is there already" in str(again.exception)


def test_what_is_no_bundle_makes_no_folder(tmp_path: Path) -> None:
    site = whole(tmp_path / "site")
    file = tmp_path / "no.zip"
    file.write_bytes(b"no zip")
    result = CliRunner().invoke(app, ["model", "import-bundle", str(file), "--site", str(site)])
    assert "makes no model: it is no zip" in str(result.exception)
    assert [one.name for one in (site / "models").iterdir()] == ["net"]
