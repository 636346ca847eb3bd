from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overread import examples
from overread.cli.main import app
from overread.errors import UsageError

WRONG = """\
{
  "type": "object",
  "properties": {
    "a": {"type": "strnig"}
  }
}
"""
UNKNOWN = """\
{
  "type": "object",
  "properties": {
    "a": {"type": "string"}
  },
  "ui": {
    "fields": {
      "a": {"colour": "red"},
      "b": {"lines": 2}
    }
  }
}
"""


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["form", "check", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("name", examples.NAMES)
def test_the_examples_forms_have_no_fault(tmp_path: Path, name: str) -> None:
    examples.copy(name, tmp_path / "site")
    code, output = run("--site", str(tmp_path / "site"))
    assert code == 0
    assert "no fault" in output and "question" in output


def test_faults_are_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "forms").mkdir()
    (tmp_path / "forms" / "wrong.json").write_text(WRONG)
    (tmp_path / "forms" / "unknown.json").write_text(UNKNOWN)
    code, output = run("--site", str(tmp_path))
    assert code == 2
    assert "forms/wrong.json:4: properties.a.type:" in output
    assert "forms/unknown.json:8: ui.fields.a.colour: unknown key 'colour'" in output
    assert "forms/unknown.json:9: ui.fields.b: there is no question 'b'" in output


def test_a_file_can_be_checked_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.json").write_text(WRONG)
    code, output = run("one.json", "--json")
    (fault,) = json.loads(output)
    assert (code, fault["line"]) == (2, 4)
    Path("one.json").write_text("{")
    assert run("one.json")[0] == 2
    assert "cannot be read" in run("two.json")[1]


def test_a_site_without_forms_has_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no form"):
        run("--site", str(tmp_path))
