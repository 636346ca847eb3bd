import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pynetdicom import AE
from typer.testing import CliRunner

from overread.cli.send import send
from overread.errors import Unavailable, UsageError
from overread.simulator.instances import make_instances, write
from overread.simulator.pacs import Pacs, received
from tests.simulator.test_instances import oblique, order

app = typer.Typer()
app.command()(send)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(make_instances(oblique(), order()), tmp_path / "images" / "series")
    return tmp_path / "images"


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Pacs]:
    one = Pacs(tmp_path / "pacs")
    one.start()
    yield one
    one.stop()


def _arguments(pacs: Pacs, *paths: Path) -> list[str]:
    to = f"127.0.0.1:{pacs.port}"
    return [*(str(path) for path in paths), "--to", to, "--called", "PACS", "--calling", "ME"]


def test_a_folder_is_sent(folder: Path, pacs: Pacs) -> None:
    result = CliRunner().invoke(app, _arguments(pacs, folder))
    assert result.exit_code == 0, result.output
    assert "6 of 6 accepted by PACS at 127.0.0.1" in result.output
    assert [row["calling"] for row in received(pacs.folder)] == ["ME"] * 6


def test_what_was_not_accepted_is_explained_and_fails(folder: Path, pacs: Pacs) -> None:
    (folder / "note.txt").write_text("no image")
    result = CliRunner().invoke(app, [*_arguments(pacs, folder), "--json"])
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["files"], summary["accepted"]) == (7, 6)
    (refused,) = summary["not_accepted"]
    assert refused["file"].endswith("note.txt")
    assert "no DICOM file" in refused["what"]
    said = CliRunner().invoke(app, _arguments(pacs, folder / "note.txt"))
    assert said.exit_code == 1
    assert "0 of 1 accepted" in said.output and "no DICOM file" in said.output


@pytest.fixture
def stern() -> Iterator[int]:
    """The port of an AE that knows nobody but FRIEND."""
    ae = AE("PACS")
    ae.require_calling_aet = ["FRIEND"]
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.4")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    yield server.server_address[1]
    server.shutdown()


def test_a_rejection_says_what_to_do(folder: Path, stern: int) -> None:
    arguments = [str(folder), "--to", f"127.0.0.1:{stern}", "--called", "PACS"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, Unavailable)
    assert "list OVERREAD under senders" in str(result.exception)
    assert "or give --calling" in str(result.exception)


def test_a_rejection_has_its_summary(folder: Path, stern: int) -> None:
    arguments = [str(folder), "--to", f"127.0.0.1:{stern}", "--called", "PACS", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["files"], summary["accepted"], len(summary["not_accepted"])) == (6, 0, 6)
    assert "calling ae title not recognised" in summary["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent", "--to", "127.0.0.1:1", "--called", "X"], "does not exist"),
        ([".", "--to", "127.0.0.1", "--called", "X"], "not HOST:PORT"),
        ([".", "--to", "127.0.0.1:70000", "--called", "X"], "not HOST:PORT"),
        ([".", "--to", "127.0.0.1:1", "--called", "MUCH_TOO_LONG_TITLE"], "not an AE title"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
