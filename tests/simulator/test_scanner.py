import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from overread.errors import Unavailable
from overread.simulator.instances import make_instances, write
from overread.simulator.pacs import Pacs, counts, received
from overread.simulator.scanner import Answer, Peer, echo, explain, send
from tests.simulator.test_instances import oblique, order


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write(make_instances(oblique(), order()), tmp_path / "images")


@contextmanager
def storescp(folder: Path, port: int, *options: str) -> Iterator[None]:
    folder.mkdir()
    command = ["storescp", "-od", str(folder), *options, str(port)]
    environment = os.environ | {"TCP_NODELAY": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def test_dcmtk_receives_what_was_written(files: list[Path], tmp_path: Path, free_port: int) -> None:
    told: list[Answer] = []
    with storescp(tmp_path / "got", free_port, "--bit-preserving"):
        answers = send(files, Peer("127.0.0.1", free_port, "DCMTK"), told=told.append)
    assert answers == told
    assert [answer.file for answer in answers] == files
    assert all(answer.accepted and answer.status == 0 for answer in answers)
    got = {dcmread(f).SOPInstanceUID: dcmread(f) for f in (tmp_path / "got").iterdir()}
    assert len(got) == 6
    for file in files:
        assert got[dcmread(file).SOPInstanceUID] == dcmread(file)


def test_a_transfer_syntax_that_the_peer_refuses_is_said(
    shared_data: Path, tmp_path: Path, free_port: int
) -> None:
    compressed = sorted((shared_data / "ct_liver" / "dicom").iterdir())[:2]
    with (
        storescp(tmp_path / "got", free_port),
        pytest.raises(Unavailable, match="accepts nothing"),
    ):
        send(compressed, Peer("127.0.0.1", free_port, "DCMTK"))


def test_compressed_images_are_sent_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    compressed = sorted((shared_data / "ct_liver" / "dicom").iterdir())[:3]
    pacs = Pacs(tmp_path / "pacs")
    pacs.start()
    try:
        answers = send(compressed, Peer("127.0.0.1", pacs.port, "PACS"))
    finally:
        pacs.stop()
    assert all(answer.accepted for answer in answers)
    kept = {f.name: f for f in (tmp_path / "pacs").rglob("*.dcm")}
    for file in compressed:
        sent = dcmread(file)
        back = dcmread(kept[f"{sent.SOPInstanceUID}.dcm"])
        assert back.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert back.PixelData == sent.PixelData


def test_a_scanner_takes_its_time_and_can_be_stopped(files: list[Path], tmp_path: Path) -> None:
    pacs = Pacs(tmp_path / "pacs")
    pacs.start()
    try:
        started = time.monotonic()
        send(files[:3], Peer("127.0.0.1", pacs.port, "PACS"), pause=0.2)
        assert time.monotonic() - started >= 0.4
    finally:
        pacs.stop()
    assert len(received(tmp_path / "pacs")) == 3


def test_the_pacs_keeps_and_counts(files: list[Path], tmp_path: Path) -> None:
    pacs = Pacs(tmp_path / "pacs")
    pacs.start()
    try:
        peer = Peer("127.0.0.1", pacs.port, "PACS")
        assert echo(peer)
        send(files, peer)
        send(files[:2], peer, calling="OTHER")
        other = write(make_instances(oblique(1), order(seed="second")), tmp_path / "second")
        send([*files[:1], *other], peer)
    finally:
        pacs.stop()
    rows = received(tmp_path / "pacs")
    assert [row["repeat"] for row in rows] == [False] * 6 + [True] * 3 + [False] * 6
    assert {row["calling"] for row in rows} == {"SCANNER", "OTHER"}
    assert counts(tmp_path / "pacs") == {
        order().study_uid: 6,
        order(seed="second").study_uid: 6,
    }


def test_who_is_not_there_or_does_not_want_it(
    files: list[Path], free_port: int, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        send(files, Peer("127.0.0.1", free_port, "NOBODY"))
    assert not echo(Peer("127.0.0.1", free_port, "NOBODY"))
    pacs = Pacs(tmp_path / "pacs")
    pacs.start()
    try:
        with pytest.raises(Unavailable, match=r"(?i)called AE title not recognised"):
            send(files, Peer("127.0.0.1", pacs.port, "WRONG"))
    finally:
        pacs.stop()


def test_what_is_no_dicom_file_is_answered_for(files: list[Path], tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("no image")
    pacs = Pacs(tmp_path / "pacs")
    pacs.start()
    try:
        answers = send([note, *files], Peer("127.0.0.1", pacs.port, "PACS"))
    finally:
        pacs.stop()
    assert not answers[0].accepted
    assert "no DICOM file" in answers[0].sentence
    assert all(answer.accepted for answer in answers[1:])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x0000, "accepted (status 0000)"),
        (0xA700, "out of resources (status A700)"),
        (0xA900, "does not match"),
        (0xB000, "accepted with a warning"),
        (0xC000, "cannot be understood"),
        (0x0124, "not authorised"),
        (0x0110, "failure"),
    ],
)
def test_statuses_are_explained(status: int, words: str) -> None:
    assert words in explain(status)
