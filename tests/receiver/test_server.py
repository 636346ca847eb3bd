"""The receiver as others see it: real processes, real senders."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)
from sqlalchemy import func, select

from overread.dicom.encoded import file_meta
from overread.receiver import association
from overread.receiver.server import Receiver
from overread.store.tables import Arrival, Association, Delivery, Instance, Quarantine, Turned
from tests.receiver.raw import ABORT_HEAD, pdu, say, store, talk
from tests.receiver.world import World, encoded, write
from tests.store.objects import as_file, ct, fresh

VERIFICATION = "1.2.840.10008.1.1"
UNKNOWN_CLASS = "1.2.3.4.5.6.7"
UNKNOWN_SYNTAX = "1.2.826.0.1.99.1"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One receiver for all tests that do not stop it; each sends instances of its own."""
    made = World(tmp_path_factory.mktemp("site"), free_port())
    made.routes = [
        {"name": "bright", "when": {"Modality": "MR"}, "send_to": ["BRIGHT"]},
        {"name": "all", "when": "always", "send_to": ["PACS"]},
    ]
    made.build().start()
    yield made
    made.close()


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """A site of its own, not started."""
    made = World(tmp_path / "site", free_port())
    yield made
    made.close()


def of(world: World, uid: str) -> list[Instance]:
    return [row for row in world.rows(Instance) if row.sop_instance_uid == uid]


def turned(world: World) -> dict[tuple[str, str, str], int]:
    return {(row.calling_ae, row.called_ae, row.reason): row.count for row in world.rows(Turned)}


def test_it_echoes(world: World) -> None:
    for called in ("OVERREAD", "BRIGHT"):
        assert world.dcmtk("echoscu", called=called) == (0, "")


def test_what_storescu_sends_is_kept_byte_for_byte(world: World, tmp_path: Path) -> None:
    sent = [fresh(InstanceNumber=n) for n in range(5)]
    folder = write(tmp_path / "in", sent)
    assert world.send(folder)[0] == 0
    kept = world.kept()
    for file, dataset in zip(sorted(folder.iterdir()), sent, strict=True):
        assert kept[dataset.SOPInstanceUID] == encoded(file)
        (row,) = of(world, dataset.SOPInstanceUID)
        assert (row.standing, row.issuer) == ("kept", "HOSPITAL")


def test_it_is_recorded_who_sent_what_where_and_why(world: World, tmp_path: Path) -> None:
    one = fresh(Modality="MR")
    assert world.send(write(tmp_path, [one]))[0] == 0
    (row,) = of(world, one.SOPInstanceUID)
    arrivals = [a for a in world.rows(Arrival) if a.instance_id == row.id]
    assert [(a.ae_title, a.origin, a.route, a.disposition) for a in arrivals] == [
        ("OVERREAD", "sent", "", "kept"),
        ("BRIGHT", "routed", "bright", "new"),
    ]
    assert arrivals[1].why["condition"]
    (delivery,) = [d for d in world.rows(Delivery) if d.instance_id == row.id]
    assert (delivery.destination, delivery.cause, delivery.state) == ("PACS", "route all", "queued")
    with world.database.read() as session:
        association = session.get_one(Association, arrivals[0].association_id)
    assert (association.calling_ae, association.called_ae) == ("SCANNER", "OVERREAD")
    assert (association.peer_address, association.ended) == ("127.0.0.1", "released")
    assert association.closed_at is not None
    assert association.closed_at >= association.opened_at


def test_dcmsend_to_a_pipeline(world: World, tmp_path: Path) -> None:
    one = fresh()
    code, _ = world.dcmtk("dcmsend", str(write(tmp_path, [one]) / "00000.dcm"), called="BRIGHT")
    assert code == 0
    (row,) = of(world, one.SOPInstanceUID)
    arrivals = [a for a in world.rows(Arrival) if a.instance_id == row.id]
    assert [(a.ae_title, a.disposition) for a in arrivals] == [("BRIGHT", "new")]
    # The routes are the router's: a push to a pipeline's door goes nowhere else.
    assert [d for d in world.rows(Delivery) if d.instance_id == row.id] == []


SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    UNKNOWN_SYNTAX,
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("sop_class", [CTImageStorage, UNKNOWN_CLASS])
def test_every_class_in_every_syntax_is_kept_as_it_came(
    world: World, tmp_path: Path, sop_class: str, syntax: str
) -> None:
    one = fresh(SOPClassUID=sop_class)
    if syntax in (JPEG2000Lossless, RLELossless):
        one.PixelData = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\2\0\0\0ab\xfe\xff\xdd\xe0\0\0\0\0"
        one["PixelData"].VR = "OB"
        one["PixelData"].is_undefined_length = True
    file = write(tmp_path, [one], syntax) / "00000.dcm"
    sending = world.associate((sop_class, syntax))
    assert sending.is_established
    assert store(sending, encoded(file), sop_class, one.SOPInstanceUID) == (0, "")
    sending.release()
    (row,) = of(world, one.SOPInstanceUID)
    assert (row.sop_class_uid, row.transfer_syntax_uid) == (sop_class, syntax)
    assert (row.patient_name, row.rows) == ("Müller^Jane", 32)
    assert world.kept()[one.SOPInstanceUID] == encoded(file)


def test_the_senders_first_syntax_is_taken(world: World) -> None:
    ae_syntaxes = [JPEG2000Lossless, ExplicitVRLittleEndian]
    sending = world.associate((CTImageStorage, ae_syntaxes))  # type: ignore[arg-type]  # pynetdicom takes any sequence
    assert sending.accepted_contexts[0].transfer_syntax == [JPEG2000Lossless]
    sending.release()


def test_services_that_are_not_ours_are_not_accepted(world: World) -> None:
    find, commitment = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1"
    sending = world.associate(
        (find, ExplicitVRLittleEndian),
        (commitment, ExplicitVRLittleEndian),
        (VERIFICATION, ExplicitVRLittleEndian),
    )
    assert {context.abstract_syntax for context in sending.accepted_contexts} == {VERIFICATION}
    sending.release()


@pytest.mark.parametrize(
    ("calling", "called", "reason", "words"),
    [
        ("STRANGER", "OVERREAD", 3, "calling AE title not recognized"),
        ("ELSEWHERE", "OVERREAD", 3, "calling AE title not recognized"),  # its address is not
        ("SCANNER", "NOBODY", 7, "called AE title not recognized"),
        ("SCANNER", "bright", 7, "called AE title not recognized"),  # case counts (PS3.5 6.2)
    ],
)
def test_strangers_and_wrong_titles_are_rejected_and_counted(
    world: World, calling: str, called: str, reason: int, words: str
) -> None:
    before = turned(world).get((calling, called, words), 0)
    associations = len(world.rows(Association))
    sending = world.associate(calling=calling, called=called)
    assert sending.is_rejected
    answer = sending.acceptor.primitive
    assert answer is not None
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, reason)
    assert turned(world)[calling, called, words] == before + 1
    assert len(world.rows(Association)) == associations


def test_too_many_associations_are_rejected_for_now(world: World) -> None:
    held = [world.associate() for _ in range(4)]
    assert all(sending.is_established for sending in held)
    fifth = world.associate()
    assert fifth.is_rejected
    assert fifth.acceptor.primitive is not None
    assert fifth.acceptor.primitive.result == 2  # transient
    assert turned(world)["SCANNER", "OVERREAD", "local limit exceeded"] == 1
    for sending in held:
        sending.release()
    assert world.dcmtk("echoscu")[0] == 0


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        pytest.param(lambda data: b"this is not DICOM at all", 0xC000, "bytes", id="not DICOM"),
        pytest.param(lambda data: data[:400], 0xC000, "", id="cut in the header"),
        pytest.param(lambda data: data[:-1000], 0xC000, "truncated", id="cut in the pixels"),
    ],
)
def test_what_cannot_be_read_is_quarantined(
    world: World, spoil: object, status: int, words: str
) -> None:
    assert callable(spoil)
    one = fresh()
    file = as_file(one)
    data = spoil(file[file.index(b"\x08\0\x05\0CS") :])
    sending = world.associate((CTImageStorage, ExplicitVRLittleEndian))
    answer = store(sending, data, CTImageStorage, one.SOPInstanceUID)
    sending.release()
    assert answer[0] == status
    assert words in answer[1]
    row = max(world.rows(Quarantine), key=lambda row: row.at)
    assert (row.status, row.size) == (status, len(data))
    assert row.affected_sop_instance_uid == one.SOPInstanceUID
    assert world.archive.path(row.key).read_bytes().endswith(data)
    assert of(world, one.SOPInstanceUID) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SOPInstanceUID": None}, "no SOPInstanceUID"),
        ({"SOPClassUID": None}, "no SOPClassUID"),
        ({"SOPInstanceUID": "1.2.3.666"}, "SOPInstanceUID is not the one of the command"),
        ({"SOPClassUID": "1.2.3.666"}, "SOPClassUID is not the one of the command"),
    ],
)
def test_uids_other_than_the_commands_are_quarantined(
    world: World, changes: dict[str, str | None], words: str
) -> None:
    uid = generate_uid()
    file = as_file(ct(**{"SOPInstanceUID": uid, **changes}))
    sending = world.associate((CTImageStorage, ExplicitVRLittleEndian))
    answer = store(sending, file[file.index(b"\x08\0\x05\0CS") :], CTImageStorage, uid)
    sending.release()
    assert answer == (0xA900, answer[1])
    assert words in answer[1]
    row = max(world.rows(Quarantine), key=lambda row: row.at)
    assert (row.status, row.reason) == (0xA900, answer[1])
    assert of(world, uid) == []


def test_repeats_variants_and_conflicts_are_all_answered_success(
    world: World, tmp_path: Path
) -> None:
    uid = generate_uid()
    copies = [
        ct(SOPInstanceUID=uid),
        ct(SOPInstanceUID=uid),
        ct(SOPInstanceUID=uid, StudyDescription="Coerced"),
        ct(SOPInstanceUID=uid, PatientID="P2"),
        ct(SOPInstanceUID=uid, PixelData=np.zeros(1024, "<u2").tobytes()),
    ]
    before = world.files()
    assert world.send(write(tmp_path, copies), called="BRIGHT")[0] == 0
    assert [row.standing for row in of(world, uid)] == [
        "kept", "variant", "conflict", "unsettled",
    ]  # fmt: skip
    ids = [row.id for row in of(world, uid)]
    arrivals = [a.disposition for a in world.rows(Arrival) if a.instance_id in ids]
    assert arrivals[:3] == ["new", "new", "new"]
    assert arrivals[3].startswith("held: conflict")
    assert len(world.files()) == len(before) + 4  # nothing is left of the repeat


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1, id="HTTP"),
        pytest.param(pdu(0x04, b""), 2, id="data before an association"),
        pytest.param(pdu(0x01, bytes(80)), 6, id="a request that is none"),
        pytest.param(bytes.fromhex("01 00 ffffffff"), 6, id="a PDU without end"),
        pytest.param(bytes.fromhex("01 00 00100001"), 6, id="a request without end"),
    ],
)
def test_what_is_no_dicom_peer_is_aborted(world: World, data: bytes, reason: int) -> None:
    assert talk(world.port, data) == ABORT_HEAD + bytes([reason])


@pytest.mark.parametrize("field", [None, b"", b"\1", b"\1\0\x30\0"])
def test_a_message_without_command_field_is_aborted(world: World, field: bytes | None) -> None:
    elements = {0x0110: b"\1\0", 0x0800: b"\1\1"}
    if field is not None:
        elements = {0x0100: field, **elements}
    sending = world.associate()
    assert say(sending, 1, elements) is None
    ends = time.monotonic() + 10
    while not sending.is_aborted and time.monotonic() < ends:
        time.sleep(0.01)
    assert sending.is_aborted
    assert world.dcmtk("echoscu")[0] == 0


@pytest.mark.parametrize(
    ("whole", "status"),
    [pytest.param(True, 0xA900, id="a dataset"), pytest.param(False, 0xC000, id="none")],
)
@pytest.mark.parametrize("named", [{}, {0x0002: b""}, {0x0002: b"\0\0"}])
def test_what_a_command_names_no_class_of_is_quarantined(
    world: World, named: dict[int, bytes], whole: bool, status: int
) -> None:
    one = fresh()
    file = as_file(one)
    data = file[file.index(b"\x08\0\x05\0CS") :] if whole else b"this is not DICOM at all"
    sending = world.associate((CTImageStorage, ExplicitVRLittleEndian))
    command = {0x0100: b"\1\0", 0x0110: b"\7\0", 0x0700: b"\2\0", 0x0800: b"\1\0"}
    command |= {0x1000: str(one.SOPInstanceUID).encode().ljust(64, b"\0")}
    answer = say(sending, 1, named | command, data)
    sending.release()
    assert answer is not None
    assert answer[0] == status
    row = max(world.rows(Quarantine), key=lambda row: row.at)
    assert (row.status, row.affected_sop_instance_uid) == (status, one.SOPInstanceUID)
    kept = world.archive.path(row.key).read_bytes()
    assert kept[file_meta(kept)[1] :] == data
    assert of(world, one.SOPInstanceUID) == []


def test_who_asks_for_nothing_takes_no_place(world: World) -> None:
    """Strangers that drip the bytes of a request do not shut the scanners out."""
    strangers = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(10)]
    try:
        for stranger in strangers:
            stranger.sendall(b"\1\0")
        held = [world.associate() for _ in range(4)]
        assert all(sending.is_established for sending in held)
        assert world.associate().is_rejected
        for sending in held:
            sending.release()
    finally:
        for stranger in strangers:
            stranger.close()


def test_connections_above_any_need_are_closed_at_once(own_world: World) -> None:
    own_world.build().start()
    strangers = [socket.create_connection(("127.0.0.1", own_world.port)) for _ in range(17)]
    try:
        strangers[-1].settimeout(10)
        assert strangers[-1].recv(1) == b""
        strangers[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            strangers[0].recv(1)
    finally:
        for stranger in strangers:
            stranger.close()
    ends = time.monotonic() + 10
    while own_world.dcmtk("echoscu")[0] and time.monotonic() < ends:
        time.sleep(0.1)
    assert own_world.dcmtk("echoscu")[0] == 0


def test_a_request_has_to_come_in_time_and_what_follows_has_not(
    own_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association, "REQUEST_SECONDS", 1.0)
    receiver = Receiver(own_world.build().site)
    receiver.start()
    try:
        sending = own_world.associate()
        began = time.monotonic()
        assert talk(receiver.port, b"\1\0\0\0") == b""
        assert 0.9 < time.monotonic() - began < 10
        assert sending.send_c_echo().Status == 0
        sending.release()
    finally:
        receiver.close()


def test_an_aborted_association_is_recorded(world: World) -> None:
    world.associate().abort()
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        newest = max(world.rows(Association), key=lambda row: row.opened_at)
        if newest.ended == "aborted":
            return
        time.sleep(0.05)
    raise AssertionError(f"it is recorded as {newest.ended}")


def test_files_are_for_their_owner_only(world: World, tmp_path: Path) -> None:
    assert world.send(write(tmp_path, [fresh()]))[0] == 0
    paths = [world.site.settings.data, *world.archive.root.rglob("*")]
    assert len(paths) > 5
    for path in paths:
        assert path.stat().st_mode & 0o077 == 0, path


def test_below_its_watermark_nothing_is_kept(own_world: World) -> None:
    own_world.settings["storage"]["watermark"] = "900TB"
    own_world.build().start()
    one = fresh()
    file = as_file(one)
    sending = own_world.associate((CTImageStorage, ExplicitVRLittleEndian))
    answer = store(
        sending, file[file.index(b"\x08\0\x05\0CS") :], CTImageStorage, one.SOPInstanceUID
    )
    sending.release()
    assert answer == (0xA700, "disk below its watermark")
    assert own_world.rows(Instance) == []
    assert own_world.files() == []
    assert turned(own_world) == {("SCANNER", "OVERREAD", "disk below its watermark"): 1}


def test_a_database_that_fails_is_no_success(own_world: World) -> None:
    own_world.build().start()
    one = fresh()
    file = as_file(one)
    sending = own_world.associate((CTImageStorage, ExplicitVRLittleEndian))
    with own_world.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE arrival RENAME TO gone")
        connection.commit()
    answer = store(
        sending, file[file.index(b"\x08\0\x05\0CS") :], CTImageStorage, one.SOPInstanceUID
    )
    sending.release()
    assert answer[0] == 0xA700
    assert own_world.files() == []  # the sender has it, and sends it again


def test_unknown_senders_may_be_accepted(own_world: World) -> None:
    own_world.settings["dicom"]["unknown_senders"] = "accept"
    own_world.build().start()
    sending = own_world.associate(calling="STRANGER")
    assert sending.is_established
    sending.release()


def test_it_stops_in_order(own_world: World) -> None:
    own_world.build().start()
    sending = own_world.associate()
    assert own_world.stop() < 8
    assert not own_world.answers()
    (row,) = [a for a in own_world.rows(Association) if a.calling_ae == "SCANNER"]
    assert row.ended == "aborted"
    assert list((own_world.site.settings.data / "receivers").iterdir()) == []
    sending.abort()


def test_a_port_that_is_taken_is_an_error_that_says_so(own_world: World) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", own_world.port))
        other.listen()
        with pytest.raises(AssertionError, match=r"port \d+ of 127.0.0.1 cannot be had"):
            own_world.build().start()


def test_two_receivers_share_the_port(own_world: World, tmp_path: Path) -> None:
    own_world.build().start(2)
    folders = [write(tmp_path / str(n), [fresh() for _ in range(5)]) for n in range(8)]
    failures: list[str] = []

    def send(folder: Path) -> None:
        code, said = own_world.send(folder)
        if code:
            failures.append(said)

    for four in (folders[:4], folders[4:]):
        threads = [threading.Thread(target=send, args=(folder,)) for folder in four]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(own_world.kept()) == 40

    def served() -> int:
        with own_world.database.read() as session:
            return session.scalar(select(func.count(Association.receiver.distinct()))) or 0

    ends = time.monotonic() + 30  # the kernel picks one at random for each connection
    while served() < 2 and time.monotonic() < ends:
        own_world.associate().release()
    assert served() == 2
    assert own_world.stop() < 8


@pytest.mark.parametrize("after", [1, 20, 90])
def test_killed_in_the_middle_nothing_acknowledged_is_lost(
    own_world: World, tmp_path: Path, after: int
) -> None:
    """kill -9 at any moment: what the sender heard Success for is there, whole, after a restart."""
    own_world.build().start(2)
    folder = write(tmp_path / "in", [fresh(InstanceNumber=n) for n in range(200)])
    said: list[str] = []

    def send() -> None:
        said.append(own_world.send(folder)[1])

    sender = threading.Thread(target=send)
    sender.start()
    ends = time.monotonic() + 30
    while len(own_world.files()) < after and time.monotonic() < ends:
        time.sleep(0.002)
    own_world.kill()
    sender.join()
    acknowledged = said[0].count("Received Store Response (Success)")
    sent = {encoded(file) for file in sorted(folder.iterdir())[:acknowledged]}
    own_world.start()
    kept = own_world.kept()
    assert acknowledged < 200, "it was killed too late to show anything"
    assert sent <= set(kept.values())
    assert len(kept) <= acknowledged + 1
    assert len(own_world.files()) == len(kept)  # nothing half-kept is left
    assert {row.ended for row in own_world.rows(Association)} == {"lost"}
    assert own_world.send(folder)[0] == 0
    assert len(own_world.kept()) == 200


def test_no_patient_data_in_its_log(own_world: World, tmp_path: Path) -> None:
    own_world.build().start()
    one = fresh(PatientName="Secret^Name", PatientID="SECRET-ID", AccessionNumber="SECRET-ACC")
    file = as_file(one)
    data = file[file.index(b"\x08\0\x05\0CS") :].replace(b"SECRET-ID ", b"SECRET-ID\xff")
    sending = own_world.associate((CTImageStorage, ExplicitVRLittleEndian))
    store(sending, data, CTImageStorage, one.SOPInstanceUID)
    store(sending, data[:300], CTImageStorage, one.SOPInstanceUID)
    sending.release()
    receiver = own_world.receivers[0]
    own_world.stop()
    assert receiver.stderr is not None
    log = receiver.stderr.read().decode()
    assert "quarantined" in log
    assert not re.search("secret", log, re.IGNORECASE), log
