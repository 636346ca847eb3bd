import socket
from pathlib import Path

import pytest

from overread.errors import UsageError
from overread.simulator.hospital import _alone, _free, _with_free_ports, make_site
from overread.site import load


def test_the_demo_site_is_a_site_and_does_not_wait_long(tmp_path: Path) -> None:
    make_site(tmp_path / "site")
    site = load(tmp_path / "site", {})
    pipeline = site.pipelines["brain-tumour"]
    assert pipeline.complete.quiet.total_seconds() <= 5
    text = (tmp_path / "site" / "pipelines" / "brain-tumour.yaml").read_text()
    assert "# which series" in text


def test_a_site_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    make_site(tmp_path)
    (tmp_path / "routes.yaml").write_text("routes: []\n")
    make_site(tmp_path)
    assert (tmp_path / "routes.yaml").read_text() == "routes: []\n"


def test_a_folder_of_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds files, but no site"):
        make_site(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_ports_that_are_taken_are_replaced(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = _free([port, 0, 0])
    assert port not in chosen
    assert len(set(chosen)) == 3
    make_site(tmp_path)
    settings = _with_free_ports(tmp_path).settings
    assert settings.destinations["PACS"].with_["host"] == "127.0.0.1"
    assert settings.site.environment == "demo"


def test_two_demos_do_not_share_a_site(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(UsageError, match="another demo runs"), _alone(tmp_path):
        pass
    with _alone(tmp_path):
        pass
