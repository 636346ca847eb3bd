"""What the audit tells as DICOM audit messages (PS3.15 section A.5): which event each action is."""

from __future__ import annotations

from sqlalchemy.orm import Session

from overread.dicom import audit_message as dicom
from overread.dicom.audit_message import Event, Object, Participant
from overread.dicom.codes import Code
from overread.store.audit import Entry
from overread.store.subjects import behind

_LOOK_AT = Event(dicom.PATIENT_RECORD, "R")
_IMAGES_SEEN = Event(dicom.INSTANCES_ACCESSED, "R")
_LISTED = Event(dicom.QUERY, "E")
_JOB = Event(dicom.PROCEDURE_RECORD, "U")
_READ = Event(dicom.PROCEDURE_RECORD, "R")
_ROLES = Event(dicom.SECURITY_ALERT, "E", (dicom.ROLES_CHANGED,))
_USER = Event(dicom.SECURITY_ALERT, "E", (dicom.USER_CHANGED,))
_REFUSED = Event(dicom.SECURITY_ALERT, "E", (dicom.RESTRICTED_FUNCTION,), outcome="4")

EVENTS: dict[str, Event] = {
    # who comes and goes
    "sign in": Event(dicom.USER_AUTHENTICATION, "E", (dicom.LOGIN,)),
    "fail to sign in": Event(dicom.USER_AUTHENTICATION, "E", (dicom.LOGIN,), outcome="4"),
    "sign out": Event(dicom.USER_AUTHENTICATION, "E", (dicom.LOGOUT,)),
    "launch": Event(dicom.USER_AUTHENTICATION, "E", (dicom.LOGIN,)),
    "refuse": _REFUSED,
    "refuse link": _REFUSED,
    "refuse launch": _REFUSED,
    # who may do what
    "add user": _USER,
    "enable user": _USER,
    "end sign-in": _USER,
    "end sign-ins": _USER,
    "end token": _USER,
    "disable user": _USER,
    "make token": _USER,
    "grant role": _ROLES,
    "revoke role": _ROLES,
    "change configuration": Event(dicom.SECURITY_ALERT, "E", (dicom.SOFTWARE_CONFIGURATION,)),
    # what was looked at
    "open case": _LOOK_AT,
    "find case": _LOOK_AT,
    "follow case": _LOOK_AT,
    "open reading": _LOOK_AT,
    "look at exam": _LOOK_AT,
    "retrieve images": _IMAGES_SEEN,
    "list cases": _LISTED,
    "list exams": _LISTED,
    "list images": _LISTED,
    "list jobs": _LISTED,
    "list results": _LISTED,
    "look at job": _READ,
    "see way": _LOOK_AT,
    "try routes": _LISTED,
    "list readings": _LISTED,
    "list deliveries": _LISTED,
    "look at readings": _READ,
    "look at result": _READ,
    "compare versions": _READ,
    "turn segmentation": _READ,
    "open artifact": _IMAGES_SEEN,
    # what was done
    "retry job": _JOB,
    "cancel job": _JOB,
    "enrol case": Event(dicom.PROCEDURE_RECORD, "C"),
    "edit segmentation": Event(dicom.PROCEDURE_RECORD, "U"),
    "store instance": Event(dicom.INSTANCES_TRANSFERRED, "C"),
    "save draft": Event(dicom.PROCEDURE_RECORD, "U"),
    "submit reading": Event(dicom.PROCEDURE_RECORD, "C"),
    "begin amendment": Event(dicom.PROCEDURE_RECORD, "U"),
    "discard amendment": Event(dicom.PROCEDURE_RECORD, "D"),
    "amend reading": Event(dicom.PROCEDURE_RECORD, "C"),
    "retry delivery": Event(dicom.PROCEDURE_RECORD, "U"),
    "hold delivery": Event(dicom.PROCEDURE_RECORD, "U"),
    # what leaves
    "read audit": Event(dicom.AUDIT_LOG_USED, "R"),
    "export audit": Event(dicom.AUDIT_LOG_USED, "R"),
}
"""Action to the event that it is. One that is told and not here fails a test."""

_BY_KIND = {
    "user": ("11", dicom.PERSON),  # security user entity
    "job": ("20", dicom.SYSTEM),  # job
    "reading": ("3", dicom.SYSTEM),  # report
    "result": ("3", dicom.SYSTEM),
}
"""Kind of subject to ParticipantObjectTypeCodeRole and ParticipantObjectTypeCode."""


def message(session: Session, row: Entry, site: str) -> str:
    """Return a row as a DICOM audit message.

    The Standard has an event on images or a patient name the study and the patient. They are looked
    up now: rows hold references only, and what was erased is named by its reference alone.
    """
    known = EVENTS.get(row.action, Event(dicom.APPLICATION_ACTIVITY, "E"))
    own = Code(row.action.replace(" ", "-"), dicom.OURS, row.action)
    event = Event(known.id, known.action, (*known.types, own), known.outcome)
    user = Participant(
        row.actor,
        requestor=bool(row.address),
        address=row.address,
        alternative=row.sign_in,
    )
    house = Participant("overread", requestor=False, role=_APPLICATION)
    who = [user] if row.actor == "overread" else [user, house]
    return dicom.audit_message(
        event, row.at, who, _objects(session, row, event), source="overread", site=site
    )


_APPLICATION = Code("110150", "DCM", "Application")


def _objects(session: Session, row: Entry, event: Event) -> list[Object]:
    if event.id == dicom.AUDIT_LOG_USED:
        return [Object("/audit", dicom.URI, role="13", name="Security Audit Log")]
    kind, _, name = row.subject.partition(" ")
    role, type_ = _BY_KIND.get(kind, ("", dicom.SYSTEM))
    objects = [Object(name or kind, Code(kind, dicom.OURS, kind), type_, role)]
    found = behind(session, row.subject)
    if found is not None:
        objects.append(Object(found.study_uid, dicom.STUDY_UID, role="3"))
        if found.patient_id:
            objects.append(Object(found.patient_id, dicom.PATIENT_NUMBER, dicom.PERSON, "1"))
    return objects
