"""The one place where it is decided what an arriving object is, and what is done with it.

The law is the table "What may arrive, and what is done" of docs/receiver.md: a first copy,
a repeat, a variant, a conflict, one of ours coming back. A C-STORE, a STOW-RS and a job come
through here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from overread.dicom.encoded import (
    Encoded,
    Unparseable,
    difference,
    file_meta,
    make_preface,
    number,
    parse,
    parse_file,
    same_pixels,
    text,
)
from overread.dicom.study import Origin
from overread.routing.rules import Decision
from overread.store.archive import Archive, new_key
from overread.store.database import Database, one_at_a_time
from overread.store.patients import (
    NOT_KNOWN_AS_ONE,
    are_one_patient,
    came_under_another,
    identity,
)
from overread.store.tables import Arrival, Delivery, Instance, new_id

_COLUMNS = {
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "study_description": "StudyDescription",
    "modality": "Modality",
    "series_number": "SeriesNumber",
    "series_description": "SeriesDescription",
    "series_date": "SeriesDate",
    "series_time": "SeriesTime",
    "body_part": "BodyPartExamined",
    "instance_number": "InstanceNumber",
}


@dataclass(frozen=True, eq=False)
class Incoming:
    """An object that came and lies in the archive, not yet acknowledged.

    Attributes
    ----------
    encoded : Encoded
        The dataset, its header read.
    digest : str
        SHA-256 of the encoded dataset.
    key : str
        Where its file lies in the archive.
    issuer : str
        The sender's default for IssuerOfPatientID.
    """

    encoded: Encoded
    digest: str
    key: str
    issuer: str = ""

    def columns(self) -> dict[str, Any]:
        """Return what the header says, by column of `Instance`."""
        header = self.encoded.header
        return {
            **{column: text(header, keyword) for column, keyword in _COLUMNS.items()},
            "issuer": text(header, "IssuerOfPatientID") or self.issuer,
            "rows": number(header, "Rows"),
            "columns": number(header, "Columns"),
            "frames": number(header, "NumberOfFrames") or 1,
            "transfer_syntax_uid": self.encoded.transfer_syntax,
            "digest": self.digest,
            "key": self.key,
            "size": len(self.encoded.data),
        }


@dataclass(frozen=True)
class Kept:
    """What became of an incoming object.

    Attributes
    ----------
    instance_id : int
        The row that stands for it: its own, or that of the same bytes.
    standing : str
        See `Instance.standing`.
    repeat : bool
        Whether the same bytes were kept before; the file that came is then not needed.
    held : str
        Why no job may begin with it; empty if one may.
    key : str
        Where the file of that row lies.
    """

    instance_id: int
    standing: str
    repeat: bool
    held: str
    key: str


@dataclass(frozen=True)
class _Standing:
    """What an object was found to be."""

    instance_id: int
    standing: str
    reason: str


@dataclass(frozen=True)
class _Place:
    """An AE title that an object comes to, and how."""

    ae_title: str
    origin: str
    route: str
    why: dict[str, Any]


# Made once: the receiver runs them for every image.
_ADD_INSTANCE = insert(Instance).returning(Instance.id)
_ADD_ARRIVAL = insert(Arrival)
_ADD_DELIVERY = insert(Delivery)
_ANY_COPY = (
    select(Instance.id).where(Instance.sop_instance_uid == bindparam("sop_instance_uid")).limit(1)
)


def take(archive: Archive, file: bytes, at: datetime, issuer: str = "") -> Incoming:
    """Put a PS3.10 file into the archive, as the first half of `keep`.

    Raises
    ------
    Unparseable
        It is no DICOM file, or has no SOPInstanceUID or SOPClassUID. Nothing is kept.
    """
    encoded = parse_file(file)
    for keyword in ("SOPInstanceUID", "SOPClassUID"):
        if not text(encoded.header, keyword):
            raise Unparseable(f"it has no {keyword}")
    key = new_key("instances", at)
    preface = make_preface(
        text(encoded.header, "SOPClassUID"),
        text(encoded.header, "SOPInstanceUID"),
        encoded.transfer_syntax,
    )
    archive.put(key, [preface, encoded.data])
    return Incoming(encoded, hashlib.sha256(encoded.data).hexdigest(), key, issuer)


def keep(
    session: Session,
    archive: Archive,
    incoming: Incoming,
    *,
    at: datetime,
    origin: Origin,
    association_id: str | None,
    decisions: Sequence[Decision],
    pipelines: Collection[str],
) -> Kept:
    """Classify an object that came, and record it, where it came to, and where it goes.

    Everything happens in the caller's transaction; only once that is committed may the sender
    hear Success.

    Parameters
    ----------
    session : Session
        A writing session.
    archive : Archive
        Holds the file of ``incoming`` and those of earlier copies.
    at : datetime
        When it came.
    origin : Origin
        The association; its called AE title is where it came to.
    association_id : str, optional
        The row of `Association`; none for STOW-RS.
    decisions : sequence of Decision
        What the routes say of it.
    pipelines : collection of str
        AE titles of pipelines; what goes to any other is a delivery.
    """
    one_at_a_time(session, "keep")
    columns = incoming.columns()
    copies = _copies(session, columns["sop_instance_uid"])
    same = next((copy for copy in copies if _same_bytes(copy, columns)), None)
    if same is not None:
        kept = _Standing(same.id, same.standing, same.standing_reason)
    else:
        standing, reason = _classify(archive, incoming.encoded, columns, copies)
        row = {**columns, "standing": standing, "standing_reason": reason, "received_at": at}
        instance_id = session.connection().execute(_ADD_INSTANCE, row).scalar_one()
        kept = _Standing(instance_id, standing, reason)
    held = _held(session, columns, kept)
    here = _Place(origin.called_ae_title, "sent", "", {})
    if any(copy.standing == "ours" for copy in copies):
        _arrive(session, kept, here, "ours", association_id, at)
    else:
        going = [decision for decision in decisions if decision.send]
        places = [here] + [
            _Place(decision.ae_title, "routed", decision.route, decision.why)
            for decision in going
            if decision.ae_title in pipelines and decision.ae_title != origin.called_ae_title
        ]
        for place in places:
            disposition = "kept"
            if place.ae_title in pipelines:
                disposition = f"held: {held}" if held else _new_or_repeat(session, kept, place)
            _arrive(session, kept, place, disposition, association_id, at)
        for decision in going:
            if decision.ae_title not in pipelines:
                _deliver(session, kept, decision, columns["sop_instance_uid"], at)
    key = same.key if same is not None else incoming.key
    return Kept(kept.instance_id, kept.standing, same is not None, held, key)


def keep_ours(session: Session, archive: Archive, file: bytes, at: datetime) -> Instance:
    """Keep an object that a job made. The same bytes a second time are the same row.

    The file is on disk when this returns; the row is the caller's to commit.

    Parameters
    ----------
    file : bytes
        A PS3.10 file.
    at : datetime
        When the job was opened: the time of everything it makes.

    Raises
    ------
    Unparseable
        It is no DICOM file.
    ValueError
        There is another object under its SOP Instance UID.
    """
    meta, start = file_meta(file)
    encoded = parse(memoryview(file)[start:], str(meta.TransferSyntaxUID))
    digest = hashlib.sha256(encoded.data).hexdigest()
    incoming = Incoming(encoded, digest, f"ours/{digest[:2]}/{digest}.dcm")
    columns = incoming.columns()
    one_at_a_time(session, "keep")
    for copy in _copies(session, columns["sop_instance_uid"]):
        if copy.standing == "ours" and _same_bytes(copy, columns):
            return session.get_one(Instance, copy.id)
        raise ValueError(
            f"another object has the SOP Instance UID that this job derived (instance {copy.id})"
        )
    if archive.path(incoming.key).exists():
        # An earlier attempt wrote it and did not commit; whether it wrote all of it is not known.
        archive.remove(incoming.key)
    archive.put(incoming.key, file)
    instance = Instance(**columns, standing="ours", standing_reason="", received_at=at)
    session.add(instance)
    session.flush()
    return instance


def settle(database: Database, archive: Archive, instance_id: int) -> str:
    """Decide what an unsettled copy is, by decoding its pixels and those of the first copy.

    A variant's deliveries begin; those of a conflict stay held, and so do its arrivals.

    Returns
    -------
    str
        The standing: ``variant`` or ``conflict`` for one that was unsettled; otherwise as it was.
    """
    with database.read() as session:
        copy = session.get_one(Instance, instance_id)
        if copy.standing != "unsettled":
            return copy.standing
        first = _copies(session, copy.sop_instance_uid)[0]
        first_path = archive.path(first.key)
    standing, reason = "variant", f"of instance {first.id}; decoded pixels are equal"
    try:
        if not same_pixels(first_path, archive.path(copy.key)):
            standing, reason = "conflict", f"with instance {first.id}: its pixels differ"
    except Unparseable as error:
        standing, reason = "conflict", f"with instance {first.id}: not to be compared; {error}"
    with database.write() as session:
        changed = session.execute(
            update(Instance)
            .where(Instance.id == instance_id, Instance.standing == "unsettled")
            .values(standing=standing, standing_reason=reason)
            .returning(Instance.id)
        ).scalar_one_or_none()
        if changed is None:
            return session.get_one(Instance, instance_id).standing
        if standing == "variant":
            session.execute(
                update(Delivery)
                .where(Delivery.instance_id == instance_id, Delivery.state == "held")
                .values(state="queued", error="")
            )
        else:
            session.execute(
                update(Arrival)
                .where(Arrival.instance_id == instance_id, Arrival.disposition == "new")
                .values(disposition=f"held: conflict {reason}")
            )
    return standing


def _copies(session: Session, sop_instance_uid: str) -> Sequence[Instance]:
    """Every copy of an object, oldest first."""
    uid = {"sop_instance_uid": sop_instance_uid}
    if session.connection().execute(_ANY_COPY, uid).first() is None:
        return ()
    same_uid = Instance.sop_instance_uid == sop_instance_uid
    return session.scalars(select(Instance).where(same_uid).order_by(Instance.id)).all()


def _same_bytes(copy: Instance, columns: dict[str, Any]) -> bool:
    mine = (copy.digest, copy.transfer_syntax_uid)
    return mine == (columns["digest"], columns["transfer_syntax_uid"])


def _classify(
    archive: Archive, encoded: Encoded, columns: dict[str, Any], copies: Sequence[Instance]
) -> tuple[str, str]:
    """Compare a copy with the first, which was never compared itself; say what it is and why."""
    if not copies:
        return "kept", ""
    first = copies[0]
    if not _same_patient(first, columns):
        return "conflict", f"with instance {first.id}: another patient"
    original = parse_file(archive.path(first.key).read_bytes())
    where = difference(original.header, encoded.header)
    if where:
        return "conflict", f"with instance {first.id}: its {where} differs"
    same_syntax = original.transfer_syntax == encoded.transfer_syntax
    if same_syntax and original.pixels() == encoded.pixels():
        return "variant", f"of instance {first.id}; its encoded pixels are equal"
    return "unsettled", f"another copy of instance {first.id}; pixels not compared yet"


def _same_patient(first: Instance, columns: dict[str, Any]) -> bool:
    keys = ("patient_id", "issuer", "patient_name", "patient_birth_date")
    one = identity(*(getattr(first, key) for key in keys))
    return are_one_patient([one, identity(*(columns[key] for key in keys))])


def _held(session: Session, columns: dict[str, Any], kept: _Standing) -> str:
    """Say why no job may begin with an object; empty if one may."""
    if kept.standing == "conflict":
        return f"conflict {kept.reason}"
    if not columns["study_uid"]:
        return "no StudyInstanceUID, so it belongs to no exam"
    if came_under_another(session, columns):
        return "its StudyInstanceUID came under two patients"
    return ""


def _new_or_repeat(session: Session, kept: _Standing, place: _Place) -> str:
    if place.origin == "sent":  # a person may want it run anew; the engine sees if it would differ
        return "new"
    here = {"instance_id": kept.instance_id, "ae_title": place.ae_title}
    before = select(Arrival.id).filter_by(**here).limit(1)
    return "repeat" if session.execute(before).first() else "new"


def _arrive(  # noqa: PLR0917 - one row, in the order of its columns
    session: Session,
    kept: _Standing,
    place: _Place,
    disposition: str,
    association_id: str | None,
    at: datetime,
) -> None:
    row = {
        "instance_id": kept.instance_id,
        "association_id": association_id,
        "ae_title": place.ae_title,
        "origin": place.origin,
        "route": place.route,
        "why": place.why,
        "at": at,
        "disposition": disposition,
        "exam_id": None,
    }
    session.connection().execute(_ADD_ARRIVAL, row)


def _deliver(
    session: Session, kept: _Standing, decision: Decision, sop_instance_uid: str, at: datetime
) -> None:
    """Queue a delivery, unless the destination gets a copy of this object already.

    Otherwise two routers that send to each other, one of which changes tags, would never stop.
    """
    to_it = Delivery.destination == decision.ae_title
    this_object = Instance.sop_instance_uid == sop_instance_uid
    there = select(Delivery.id).join(Instance).where(to_it, this_object)
    if kept.standing == "conflict":
        there = there.where(Delivery.instance_id == kept.instance_id)
    if session.execute(there.limit(1)).first():
        return
    waits = kept.standing in NOT_KNOWN_AS_ONE
    row = {
        "id": new_id(),
        "destination": decision.ae_title,
        "instance_id": kept.instance_id,
        "cause": f"route {decision.route}",
        "why": decision.why,
        "state": "held" if waits else "queued",
        "attempts": 0,
        "error": f"{kept.standing} copy of an object that came before" if waits else "",
        "created_at": at,
        "next_at": None,
        "ended_at": None,
    }
    session.connection().execute(_ADD_DELIVERY, row)
