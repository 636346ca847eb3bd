"""``overread init``, ``check`` and ``plugins``, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from overread import examples
from overread.cli import site
from overread.errors import UsageError
from tests.site.sites import ROUTES, whole

app = typer.Typer()
for command in (site.init, site.check, site.plugins):
    app.command()(command)


@pytest.fixture(autouse=True)
def _no_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERREAD_ENV", raising=False)


def test_init_makes_a_site_that_is_right(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "site"
    made = CliRunner().invoke(app, ["init", str(folder)])
    assert made.exit_code == 0, made.output
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "overread.yaml", "routes.yaml", ".gitignore",
    }  # fmt: skip
    checked = CliRunner().invoke(app, ["check", "--site", str(folder)])
    assert checked.exit_code == 0, checked.output
    assert checked.output == (
        "My hospital: no fault. 0 destinations, 0 routes, 0 pipelines, 0 models, 0 own operators.\n"
    )


@pytest.mark.parametrize("example", examples.NAMES)
def test_init_makes_the_example(tmp_path: Path, example: str) -> None:
    made = CliRunner().invoke(app, ["init", str(tmp_path), "--example", example])
    assert made.exit_code == 0, made.output
    checked = CliRunner().invoke(app, ["check", "--site", str(tmp_path)])
    assert checked.exit_code == 0, checked.output
    assert "1 pipeline" in checked.output


def test_init_refuses_what_is_there_and_what_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    again = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert isinstance(again.exception, UsageError)
    assert "not empty" in str(again.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    unknown = CliRunner().invoke(app, ["init", str(tmp_path / "x"), "--example", "btx"])
    assert isinstance(unknown.exception, UsageError)
    assert not (tmp_path / "x").exists()


def test_check_lists_every_fault(tmp_path: Path) -> None:
    root = whole(
        tmp_path,
        routes=ROUTES.replace("Modality", "Modalty"),
        weights=b"other weights",
    )
    result = CliRunner().invoke(app, ["check", "--site", str(root)])
    assert result.exit_code == 2
    model, route = result.output.splitlines()
    assert model.startswith("models/net/1.0.0/model.yaml:4: the SHA-256 of net.onnx is ")
    assert route == (
        "routes.yaml:3: routes[1].when.Modalty: 'Modalty' is no attribute of DICOM; "
        "expected a keyword of PS3.6, perhaps Modality or ModalityLUTType"
    )
    result = CliRunner().invoke(app, ["check", "--site", str(root), "--json"])
    assert result.exit_code == 2
    faults = json.loads(result.output)
    assert [(fault["file"], fault["line"]) for fault in faults] == [
        ("models/net/1.0.0/model.yaml", 4),
        ("routes.yaml", 3),
    ]
    assert set(faults[0]) == {"file", "line", "what", "expected"}


def test_check_of_a_right_site_as_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--site", str(whole(tmp_path)), "--json"])
    assert (result.exit_code, json.loads(result.output)) == (0, [])


def test_plugins_are_listed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plugins", "--json"])
    assert result.exit_code == 0, result.output
    rows = {(row["family"], row["name"]): row for row in json.loads(result.output)}
    assert rows["operators", "threshold"]["distribution"] == "overread"
    assert rows["operators", "threshold"]["missing"] == ""
    assert ("destinations", "dimse") in rows
    assert ("identity", "local") in rows
    assert ("runtimes", "onnx") in rows


def test_a_sites_own_operators_are_listed_with_it(tmp_path: Path) -> None:
    (tmp_path / "overread.yaml").write_text("site: {name: A}\n")
    (tmp_path / "operators").mkdir()
    (tmp_path / "operators" / "mine.py").write_text(
        "from overread.dicom.volume import Volume\n\n"
        'def same(volume: Volume) -> Volume:\n    """Change nothing."""\n    return volume\n'
    )
    result = CliRunner().invoke(app, ["plugins", "--json", "--site", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (own,) = [row for row in json.loads(result.output) if row["distribution"] == "this site"]
    assert (own["family"], own["name"], own["value"]) == ("operators", "same", "operators/mine.py")


def test_the_command_exits_with_2_for_a_wrong_site(tmp_path: Path) -> None:
    """The real process, from the current folder: exit code, and faults where a pipe finds them."""
    (tmp_path / "overread.yaml").write_text("site: {nam: A}\n")
    run = [sys.executable, "-m", "overread.cli.main", "check"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout.splitlines() == [
        "overread.yaml:1: 'name' is missing in site; expected `name:` there",
        "overread.yaml:1: unknown key site.nam; expected an existing key, perhaps name",
    ]
    (tmp_path / "overread.yaml").write_text("site: {name: A}\n")
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
