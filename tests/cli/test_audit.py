from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from overread.cli.audit import app
from overread.engine.sealing import Sealer, heads_file
from overread.errors import UsageError
from overread.site import load
from overread.store import append_only
from overread.store.audit import record
from overread.store.database import Database

NOW = datetime(2026, 6, 2, 9, 30, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three rows told, the first two sealed and exported."""
    (tmp_path / "overread.yaml").write_text("site: {name: Test}\n")
    database = Database(load(tmp_path, {}).settings.database_url)
    database.upgrade()
    settings = load(tmp_path, {}).settings
    for actor, action, subject in (
        ("rosa", "open case", "case 3f"), ("egon", "retry job", "job 4a"),
    ):  # fmt: skip
        with database.write() as session:
            record(session, NOW, actor, action, subject, {"from": "mask"}, address="10.0.0.7")
    Sealer(database, "one", heads_file(settings.data)).round(NOW)
    with database.write() as session:
        record(session, NOW, "rosa", "sign out", "user 5")
    database.close()
    return tmp_path


def run(site: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments, "--site", str(site)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_chain_that_holds_is_said(site: Path) -> None:
    said = run(site, "verify")
    assert said.exit_code == 0, said.output
    words = " ".join(said.stdout.split())
    assert "2 rows in 1 blocks hold (compared with 1 exported heads); 1 are not sealed yet" in words


def test_the_first_bad_row_is_named(site: Path) -> None:
    database = Database(load(site, {}).settings.database_url)
    with database.write() as session:
        for one in (
            *append_only.without_triggers("sqlite"),
            "UPDATE audit SET actor = 'nobody' WHERE id = 2",
        ):
            session.execute(text(one))
    said = run(site, "verify")
    assert said.exit_code == 1
    assert "row 2 of block 1 was changed" in said.stdout


def test_another_file_of_heads_can_be_named(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "copy.jsonl"
    file.write_text('{"block": 1, "head": "cafe"}\n')
    said = run(site, "verify", "--heads", str(file))
    assert said.exit_code == 1
    assert "block 1 has another head than the one that was exported" in " ".join(
        said.stdout.split()
    )
    file.write_text("what\n")
    with pytest.raises(UsageError, match="line 1 is no head of a block"):
        run(site, "verify", "--heads", str(file))
    with pytest.raises(UsageError, match="there is no file"):
        run(site, "verify", "--heads", str(tmp_path / "nowhere"))


def test_rows_are_listed_newest_first(site: Path) -> None:
    rows = json.loads(run(site, "list", "--json").stdout)
    assert [(row["actor"], row["sealed"]) for row in rows] == [
        ("rosa", False), ("egon", True), ("rosa", True),
    ]  # fmt: skip
    rows = json.loads(run(site, "list", "--subject", "job", "--json").stdout)
    assert [row["action"] for row in rows] == ["retry job"]
    assert json.loads(run(site, "list", "--since", "2027-01-01", "--json").stdout) == []


def test_an_export_is_a_new_file_and_told(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit.jsonl"
    assert "4 rows are in" in run(site, "export", "--out", str(out)).stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["action"] for row in rows] == [
        "open case", "retry job", "sign out", "export audit",
    ]  # fmt: skip
    assert rows[-1]["actor"].endswith("at the command line")
    with pytest.raises(UsageError, match="expected a new file"):
        run(site, "export", "--out", str(out))
    with pytest.raises(UsageError, match="expected one of csv, jsonl, dicom"):
        run(site, "export", "--format", "pdf", "--out", str(tmp_path / "x"))
