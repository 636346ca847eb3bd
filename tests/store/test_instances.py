"""Every row of the table "What may arrive" that concerns keeping."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from sqlalchemy import event, select

from overread.dicom.encoded import Unparseable, parse_file
from overread.dicom.study import Origin
from overread.routing.rules import Decision
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.instances import (
    Kept,
    keep,
    keep_ours,
    settle,
    take,
)
from overread.store.patients import are_one_patient, patients_of_study
from overread.store.tables import Arrival, Delivery, Instance
from tests.store.objects import as_file, ct, fresh

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PIPELINES = ("BRIGHT", "OTHER")


@dataclass
class House:
    database: Database
    archive: Archive

    def arrive(
        self,
        dataset: Dataset | bytes,
        called: str = "OVERREAD",
        *,
        transfer_syntax: str = ExplicitVRLittleEndian,
        to: tuple[str, ...] = (),
        issuer: str = "",
    ) -> Kept:
        file = dataset if isinstance(dataset, bytes) else as_file(dataset, transfer_syntax)
        incoming = take(self.archive, file, NOW, issuer)
        decisions = [Decision(f"to {ae}", ae, True, {"reason": "met"}) for ae in to]
        with self.database.write() as session:
            return keep(
                session,
                self.archive,
                incoming,
                at=NOW,
                origin=Origin("SCANNER", called, "127.0.0.1"),
                association_id=None,
                decisions=decisions,
                pipelines=PIPELINES,
            )

    def rows(self, table: Any) -> list[Any]:
        with self.database.read() as session:
            return list(session.scalars(select(table).order_by(table.id)))

    def dispositions(self) -> list[tuple[str, str, str]]:
        return [(row.ae_title, row.origin, row.disposition) for row in self.rows(Arrival)]

    def deliveries(self) -> set[tuple[str, int, str]]:
        return {(row.destination, row.instance_id, row.state) for row in self.rows(Delivery)}


@pytest.fixture
def house(tmp_path: Path) -> House:
    database = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    database.upgrade()
    return House(database, Archive(tmp_path / "archive"))


def test_a_first_copy_is_kept_as_it_came(house: House) -> None:
    file = as_file(ct())
    kept = house.arrive(file, issuer="HOSPITAL")
    assert (kept.standing, kept.repeat, kept.held) == ("kept", False, "")
    (row,) = house.rows(Instance)
    assert (row.patient_id, row.issuer, row.patient_name) == ("P1", "HOSPITAL", "Müller^Jane")
    assert (row.study_description, row.rows, row.frames) == ("Kopf für Test", 32, 1)
    assert (row.accession, row.instance_number, row.received_at) == ("A1", "7", NOW)
    stored = house.archive.path(row.key).read_bytes()
    assert bytes(parse_file(stored).data) == bytes(parse_file(file).data)
    assert row.size == len(parse_file(file).data)
    assert house.dispositions() == [("OVERREAD", "sent", "kept")]


def test_the_issuer_as_written_goes_before_the_senders(house: House) -> None:
    house.arrive(ct(IssuerOfPatientID="OWN"), issuer="HOSPITAL")
    assert house.rows(Instance)[0].issuer == "OWN"


def test_at_a_pipelines_ae_title_it_waits_for_the_engine(house: House) -> None:
    house.arrive(ct(), "BRIGHT")
    assert house.dispositions() == [("BRIGHT", "sent", "new")]


def test_a_route_to_a_pipeline_is_an_arrival_and_to_a_pacs_a_delivery(house: House) -> None:
    house.arrive(ct(), to=("BRIGHT", "PACS"))
    assert house.dispositions() == [("OVERREAD", "sent", "kept"), ("BRIGHT", "routed", "new")]
    routed = house.rows(Arrival)[1]
    assert (routed.route, routed.why) == ("to BRIGHT", {"reason": "met"})
    (delivery,) = house.rows(Delivery)
    assert (delivery.destination, delivery.cause) == ("PACS", "route to PACS")
    assert (delivery.state, delivery.attempts, delivery.why) == ("queued", 0, {"reason": "met"})


def test_a_decision_not_to_send_sends_nothing(house: House) -> None:
    incoming = take(house.archive, as_file(ct()), NOW)
    with house.database.write() as session:
        keep(
            session,
            house.archive,
            incoming,
            at=NOW,
            origin=Origin("PACS", "OVERREAD", ""),
            association_id=None,
            decisions=[Decision("all", "PACS", False, {"reason": "it came from there"})],
            pipelines=PIPELINES,
        )
    assert house.rows(Delivery) == []


def test_same_uid_same_bytes_is_the_one_copy_and_no_job(house: House) -> None:
    first = house.arrive(ct(), "BRIGHT", to=("PACS",))
    again = house.arrive(ct(), "BRIGHT", to=("PACS",))
    # The engine is to see that a person sent it again; it opens a job only if one would differ.
    assert again.repeat
    assert again.instance_id == first.instance_id
    assert again.key == first.key
    assert len(house.rows(Instance)) == 1
    assert [row[2] for row in house.dispositions()] == ["new", "new"]
    assert house.deliveries() == {("PACS", first.instance_id, "queued")}


def test_same_bytes_for_a_second_pipeline_are_new_there(house: House) -> None:
    first = house.arrive(ct(), "BRIGHT")
    second = house.arrive(ct(), "OTHER")
    assert second.instance_id == first.instance_id
    assert [row[2] for row in house.dispositions()] == ["new", "new"]


def test_other_descriptive_tags_are_a_variant_kept_beside(house: House) -> None:
    first = house.arrive(ct(), to=("PACS",))
    kept = house.arrive(ct(StudyDescription="Coerced", PatientName="MUELLER^JANE"), to=("PACS",))
    assert (kept.standing, kept.held) == ("variant", "")
    assert [row.standing for row in house.rows(Instance)] == ["kept", "variant"]
    assert house.deliveries() == {("PACS", first.instance_id, "queued")}


def test_a_variant_for_a_pipeline_is_what_its_exam_uses(house: House) -> None:
    house.arrive(ct())
    kept = house.arrive(ct(StudyDescription="Coerced"), "BRIGHT")
    arrival = house.rows(Arrival)[-1]
    assert (arrival.instance_id, arrival.disposition) == (kept.instance_id, "new")


def rle(**changes: Any) -> bytes:
    one = ct(**changes)
    as_file(one)
    one.compress(RLELossless, generate_instance_uid=False)
    return as_file(one, RLELossless)


def jpeg_2000(**changes: Any) -> bytes:
    one = ct(**changes)
    pixels = np.frombuffer(one.PixelData, "<u2").reshape(32, 32)
    one.PixelData = encapsulate([encode_array(pixels, bits_stored=12)])
    one["PixelData"].VR = "OB"
    return as_file(one, JPEG2000Lossless)


OTHER_SYNTAXES = [
    pytest.param(lambda **c: as_file(ct(**c), ImplicitVRLittleEndian), id="implicit"),
    pytest.param(rle, id="RLE"),
    pytest.param(jpeg_2000, id="JPEG 2000"),
]
OTHER_PIXELS = np.arange(1, 1025, dtype="<u2").tobytes()


@pytest.mark.parametrize("encode", OTHER_SYNTAXES)
def test_another_transfer_syntax_is_a_variant_once_it_is_settled(house: House, encode: Any) -> None:
    first = house.arrive(ct(), to=("PACS",))
    kept = house.arrive(encode(), "BRIGHT", to=("PACS", "ARCHIVE"))
    assert kept.standing == "unsettled"
    assert house.deliveries() == {
        ("PACS", first.instance_id, "queued"),
        ("ARCHIVE", kept.instance_id, "held"),
    }
    assert settle(house.database, house.archive, kept.instance_id) == "variant"
    assert house.rows(Arrival)[-1].disposition == "new"
    assert ("ARCHIVE", kept.instance_id, "queued") in house.deliveries()
    assert settle(house.database, house.archive, kept.instance_id) == "variant"
    assert settle(house.database, house.archive, first.instance_id) == "kept"


def test_big_endian_pixels_are_compared_as_numbers(house: House) -> None:
    house.arrive(ct())
    swapped = ct(PixelData=np.arange(1024, dtype=">u2").tobytes())
    kept = house.arrive(swapped, transfer_syntax=ExplicitVRBigEndian)
    assert settle(house.database, house.archive, kept.instance_id) == "variant"


@pytest.mark.parametrize(
    "encode",
    [*OTHER_SYNTAXES, pytest.param(lambda **c: as_file(ct(**c)), id="the same")],
)
def test_other_pixels_are_a_conflict_once_they_are_settled(house: House, encode: Any) -> None:
    house.arrive(ct())
    kept = house.arrive(encode(PixelData=OTHER_PIXELS), "BRIGHT", to=("PACS",))
    assert kept.standing == "unsettled"
    assert settle(house.database, house.archive, kept.instance_id) == "conflict"
    assert "pixels differ" in house.rows(Instance)[1].standing_reason
    assert house.rows(Arrival)[-1].disposition.startswith("held: conflict")
    assert house.deliveries() == {("PACS", kept.instance_id, "held")}


def test_pixels_that_cannot_be_decoded_are_a_conflict(house: House) -> None:
    house.arrive(ct())
    kept = house.arrive(as_file(ct(), "1.2.3.4.5.6.7.8"))
    assert kept.standing == "unsettled"
    assert settle(house.database, house.archive, kept.instance_id) == "conflict"
    assert "not to be compared" in house.rows(Instance)[1].standing_reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PatientID": "P2"}, "another patient"),
        ({"IssuerOfPatientID": "ELSEWHERE"}, "another patient"),
        ({"StudyInstanceUID": "1.2.3.9"}, "StudyInstanceUID"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "SOPClassUID"),
        ({"Rows": 16, "Columns": 64}, "Rows"),
        ({"ImagePositionPatient": [-10, -20, 31]}, "ImagePositionPatient"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"PixelSpacing": [0.6, 0.5]}, "PixelSpacing"),
        ({"NumberOfFrames": 2}, "NumberOfFrames"),
    ],
)
def test_other_patient_study_or_geometry_is_a_conflict(
    house: House, changes: dict[str, Any], reason: str
) -> None:
    house.arrive(ct(), issuer="HOSPITAL")
    kept = house.arrive(ct(**changes), "BRIGHT", to=("PACS", "OTHER"), issuer="HOSPITAL")
    assert kept.standing == "conflict"
    assert reason in house.rows(Instance)[1].standing_reason
    assert [row[2].partition(",")[0] for row in house.dispositions()[1:]] == [
        f"held: {kept.held}".partition(",")[0]
    ] * 2
    assert house.deliveries() == {("PACS", kept.instance_id, "held")}
    again = house.arrive(ct(**changes), "BRIGHT", issuer="HOSPITAL")
    assert again.repeat
    assert house.dispositions()[-1][2].startswith("held: conflict")


def test_numbers_written_in_another_way_are_the_same_geometry(house: House) -> None:
    house.arrive(ct(PixelSpacing=["0.5", "0.50"]))
    assert house.arrive(ct(PixelSpacing=["0.500", "5e-1"])).standing == "variant"


def multiframe(z: float, **changes: Any) -> Dataset:
    frame, position = Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, z]
    frame.PlanePositionSequence = [position]
    return ct(PerFrameFunctionalGroupsSequence=[frame], **changes)


def test_functional_groups_are_geometry_in_any_transfer_syntax(house: House) -> None:
    house.arrive(multiframe(1))
    assert house.arrive(multiframe(2)).standing == "conflict"
    assert house.arrive(multiframe(1, StudyDescription="x")).standing == "variant"
    kept = house.arrive(multiframe(1), transfer_syntax=ImplicitVRLittleEndian)
    assert kept.standing == "unsettled"


def test_an_issuer_that_is_not_known_contradicts_none(house: House) -> None:
    house.arrive(ct(), issuer="HOSPITAL")
    assert house.arrive(ct(StudyDescription="x"), "BRIGHT").standing == "variant"
    assert house.dispositions()[-1][2] == "new"


def test_an_unknown_class_in_an_unknown_syntax_is_kept(house: House) -> None:
    file = as_file(ct(SOPClassUID="1.2.3.4.5.6"), "1.2.826.0.1.99.1")
    kept = house.arrive(file, "BRIGHT")
    (row,) = house.rows(Instance)
    assert (kept.standing, row.sop_class_uid) == ("kept", "1.2.3.4.5.6")
    assert row.transfer_syntax_uid == "1.2.826.0.1.99.1"


def test_what_we_made_comes_back_and_goes_nowhere(house: House) -> None:
    file = as_file(ct(SOPInstanceUID="2.25.77"))
    with house.database.write() as session:
        mine = keep_ours(session, house.archive, file, NOW)
        assert mine.standing == "ours"
    back = house.arrive(file, "BRIGHT", to=("PACS", "OTHER"))
    assert (back.instance_id, back.repeat) == (mine.id, True)
    assert house.dispositions() == [("BRIGHT", "sent", "ours")]
    changed = house.arrive(
        ct(SOPInstanceUID="2.25.77", StudyDescription="x"), "BRIGHT", to=("PACS",)
    )
    assert changed.standing == "variant"
    assert house.dispositions()[-1] == ("BRIGHT", "sent", "ours")
    assert house.rows(Delivery) == []


def test_what_a_job_makes_twice_is_one_row(house: House) -> None:
    file = as_file(ct(SOPInstanceUID="2.25.77"))
    ids = set()
    for _ in range(2):
        with house.database.write() as session:
            ids.add(keep_ours(session, house.archive, file, NOW).id)
    assert len(ids) == 1
    (row,) = house.rows(Instance)
    assert house.archive.path(row.key).read_bytes() == file
    other = as_file(ct(SOPInstanceUID="2.25.77", StudyDescription="x"))
    with pytest.raises(ValueError, match="another object"), house.database.write() as session:
        keep_ours(session, house.archive, other, NOW)


def test_what_a_job_wrote_and_did_not_record_is_written_again(house: House) -> None:
    file = as_file(ct(SOPInstanceUID="2.25.77"))
    with pytest.raises(ZeroDivisionError), house.database.write() as session:
        key = keep_ours(session, house.archive, file, NOW).key
        raise ZeroDivisionError
    house.archive.path(key).write_bytes(file[:100])  # as after a power failure
    with house.database.write() as session:
        assert keep_ours(session, house.archive, file, NOW).key == key
    assert house.archive.path(key).read_bytes() == file


def test_one_study_under_two_patients_is_held(house: House) -> None:
    house.arrive(fresh(), "BRIGHT")
    kept = house.arrive(fresh(PatientID="P2"), "BRIGHT", to=("OTHER", "PACS"))
    assert kept.standing == "kept"
    assert "two patients" in kept.held
    assert [row[2] for row in house.dispositions()] == [
        "new",
        f"held: {kept.held}",
        f"held: {kept.held}",
    ]
    assert len(house.deliveries()) == 1
    with house.database.read() as session:
        patients = patients_of_study(session, "1.2.3.4")
    assert patients == [("P1", ""), ("P2", "")]
    assert not are_one_patient(patients)
    assert house.arrive(fresh(), "BRIGHT").held  # the first patient's later ones too


def test_one_study_under_two_patients_without_id_is_held(house: House) -> None:
    house.arrive(fresh(PatientID=""), "BRIGHT")
    assert not house.arrive(fresh(PatientID=""), "BRIGHT").held
    assert "two patients" in house.arrive(fresh(PatientID="", PatientName="B"), "BRIGHT").held
    assert house.arrive(fresh(PatientID=""), "BRIGHT").held  # the first patient's later ones too
    with house.database.read() as session:
        assert not are_one_patient(patients_of_study(session, "1.2.3.4"))
    other = {"StudyInstanceUID": "1.2.9", "PatientID": ""}
    assert not house.arrive(fresh(**other), "BRIGHT").held
    assert house.arrive(fresh(**other, PatientBirthDate="19700102"), "BRIGHT").held
    assert house.arrive(fresh(**other, PatientBirthDate="19691231"), "BRIGHT").held


def test_a_patient_with_and_one_without_id_are_two(house: House) -> None:
    house.arrive(fresh(), "BRIGHT")
    assert house.arrive(fresh(PatientID=""), "BRIGHT").held


def test_what_we_made_makes_no_second_patient(house: House) -> None:
    """Its names and dates are written as the Standard has them, even where the source's are not."""
    house.arrive(fresh(PatientID="", PatientBirthDate="19700231"), "BRIGHT")
    with house.database.write() as session:
        mine = fresh(PatientID="", PatientBirthDate="")
        keep_ours(session, house.archive, as_file(mine), NOW)
    assert not house.arrive(fresh(PatientID="", PatientBirthDate="19700231"), "BRIGHT").held


def test_one_patient_id_of_two_issuers_is_two_patients(house: House) -> None:
    house.arrive(fresh(IssuerOfPatientID="A"), "BRIGHT")
    assert not house.arrive(fresh(), "BRIGHT").held
    assert house.arrive(fresh(IssuerOfPatientID="B"), "BRIGHT").held


def test_a_conflicting_copy_does_not_hold_its_study(house: House) -> None:
    house.arrive(ct(), "BRIGHT")
    assert house.arrive(ct(PatientID="P2"), "BRIGHT").standing == "conflict"
    assert not house.arrive(fresh(), "BRIGHT").held


def test_two_without_patient_id_are_never_matched_by_that(house: House) -> None:
    house.arrive(ct(PatientID=""), "BRIGHT")
    assert house.arrive(ct(PatientID="", StudyDescription="x")).standing == "variant"
    other = ct(PatientID="", PatientName="Somebody^Else")
    assert house.arrive(other, "BRIGHT").standing == "conflict"
    assert house.dispositions()[0][2] == "new"


def test_without_a_study_it_belongs_to_no_exam(house: House) -> None:
    kept = house.arrive(ct(StudyInstanceUID=None), "BRIGHT")
    assert kept.standing == "kept"
    assert house.dispositions()[0][2].startswith("held: no StudyInstanceUID")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"not DICOM", "not a DICOM file"),
        (as_file(ct(SOPInstanceUID=None)), "no SOPInstanceUID"),
        (as_file(ct())[:-100], "truncated"),
    ],
)
def test_what_is_no_object_is_not_taken(house: House, file: bytes, reason: str) -> None:
    with pytest.raises(Unparseable, match=reason):
        take(house.archive, file, NOW)
    assert [path for path in house.archive.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("changes", "looks", "index"),
    [
        ({}, "patient_id <", "ix_instance_study_uid_patient_id_issuer"),
        ({"PatientID": ""}, "patient_name <", "ix_instance_without_patient_id"),
    ],
)
def test_holding_costs_a_long_study_no_more_than_a_short_one(
    house: House, changes: dict[str, str], looks: str, index: str
) -> None:
    """The check looks at the edges of an index; it would be quadratic in the study otherwise."""
    statements: list[tuple[str, Any]] = []
    event.listen(
        house.database.engine,
        "before_cursor_execute",
        lambda _c, _u, statement, parameters, *_: statements.append((statement, parameters)),
    )
    house.arrive(ct(IssuerOfPatientID="A", **changes))
    looked = next(s for s in statements if looks in s[0])
    with house.database.engine.connect() as connection:
        plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + looked[0], looked[1]).all()
    steps = [row[3] for row in plan]
    assert not any(step.startswith("SCAN") for step in steps), steps
    assert sum(index in step for step in steps) == 4, steps
