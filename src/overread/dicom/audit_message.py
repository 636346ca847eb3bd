"""Audit messages as DICOM has them (PS3.15 section A.5): XML for an audit record repository.

One message tells of one event: what it was, who took part, where it was told, and what it was done
to. The codes of events are context groups CID 400 and CID 401 of PS3.16; what the Standard has no
code for has one of ours, as section A.5.1 lets an application do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from overread.dicom.codes import Code

OURS = "99OVERREAD"
"""Coding scheme of what the Standard has no code for (PS3.16 section 8: private ones begin 99)."""

ActionCode = Literal["C", "R", "U", "D", "E"]
"""Create, read, update, delete, execute (PS3.15 table A.5.2-1)."""
Outcome = Literal["0", "4", "8", "12"]
"""Success, minor, serious and major failure (PS3.15 table A.5.2-1)."""

PERSON, SYSTEM = "1", "2"
"""ParticipantObjectTypeCode (PS3.15 table A.5.2-1)."""


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


APPLICATION_ACTIVITY = _dcm("110100", "Application Activity")
AUDIT_LOG_USED = _dcm("110101", "Audit Log Used")
INSTANCES_ACCESSED = _dcm("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = _dcm("110104", "DICOM Instances Transferred")
EXPORT = _dcm("110106", "Export")
PATIENT_RECORD = _dcm("110110", "Patient Record")
PROCEDURE_RECORD = _dcm("110111", "Procedure Record")
QUERY = _dcm("110112", "Query")
SECURITY_ALERT = _dcm("110113", "Security Alert")
USER_AUTHENTICATION = _dcm("110114", "User Authentication")
"""Events: PS3.16 CID 400."""

LOGIN = _dcm("110122", "Login")
LOGOUT = _dcm("110123", "Logout")
SECURITY_CONFIGURATION = _dcm("110129", "Security Configuration")
SOFTWARE_CONFIGURATION = _dcm("110131", "Software Configuration")
RESTRICTED_FUNCTION = _dcm("110132", "Use of Restricted Function")
ROLES_CHANGED = _dcm("110136", "Security Roles Changed")
USER_CHANGED = _dcm("110137", "User Security Attributes Changed")
"""Types of events: PS3.16 CID 401."""

STUDY_UID = _dcm("110180", "Study Instance UID")
"""What a study is named by: PS3.16 CID 404."""
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
USER_NUMBER = Code("11", "RFC-3881", "User Identifier")
URI = Code("12", "RFC-3881", "URI")
"""What objects are named by: RFC 3881 section 5.5.4."""


@dataclass(frozen=True)
class Participant:
    """Somebody, or a program, that took part (element ActiveParticipant).

    Attributes
    ----------
    user_id : str
        What it is known by.
    requestor : bool
        Whether it asked for what was done.
    address : str
        Network address that it asked from; empty where there is none.
    alternative : str
        Another id of the same: the sign-in that was used.
    role : Code, optional
        Its role (PS3.16 CID 402).
    """

    user_id: str
    requestor: bool
    address: str = ""
    alternative: str = ""
    role: Code | None = None


@dataclass(frozen=True)
class Object:
    """What something was done to (element ParticipantObjectIdentification).

    Attributes
    ----------
    id : str
        Its id.
    named_by : Code
        What kind of id that is.
    type : str
        `PERSON` or `SYSTEM`.
    role : str
        ParticipantObjectTypeCodeRole, of PS3.15 table A.5.2-1; empty for none.
    name : str
        What it is called.
    """

    id: str
    named_by: Code
    type: str = SYSTEM
    role: str = ""
    name: str = ""


@dataclass(frozen=True)
class Event:
    """What happened (element EventIdentification).

    Attributes
    ----------
    id : Code
        Of CID 400.
    action : ActionCode
        What was done.
    types : tuple of Code
        Of CID 401, and of ours.
    outcome : Outcome
        Whether it succeeded.
    """

    id: Code
    action: ActionCode
    types: tuple[Code, ...] = ()
    outcome: Outcome = "0"


def audit_message(
    event: Event,
    at: datetime,
    participants: Sequence[Participant],
    objects: Sequence[Object],
    *,
    source: str,
    site: str = "",
) -> str:
    """Write one message, in one line.

    Parameters
    ----------
    at : datetime
        When it happened; aware.
    source : str
        What told of it (AuditSourceID).
    site : str
        Where that is (AuditEnterpriseSiteID).

    Raises
    ------
    ValueError
        Nobody took part, or the time has no zone.
    """
    if not participants:
        raise ValueError("an audit message without an ActiveParticipant; at least one is expected")
    if at.tzinfo is None:
        raise ValueError(f"EventDateTime {at!r} has no time zone; an aware time is expected")
    message = Element("AuditMessage")
    told = SubElement(
        message,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=event.outcome,
    )
    _coded(told, "EventID", event.id)
    for kind in event.types:
        _coded(told, "EventTypeCode", kind)
    for one in participants:
        _participant(message, one)
    where = {"AuditEnterpriseSiteID": site} if site else {}
    SubElement(message, "AuditSourceIdentification", where, AuditSourceID=source)
    for thing in objects:
        _object(message, thing)
    return tostring(message, encoding="unicode")


def _coded(parent: Element, name: str, code: Code) -> None:
    SubElement(
        parent,
        name,
        {
            "csd-code": code.value,
            "codeSystemName": code.scheme,
            "originalText": code.meaning,
        },
    )


def _participant(message: Element, one: Participant) -> None:
    made = SubElement(
        message,
        "ActiveParticipant",
        UserID=one.user_id,
        UserIsRequestor=str(one.requestor).lower(),
    )
    if one.alternative:
        made.set("AlternativeUserID", one.alternative)
    if one.address:
        made.set("NetworkAccessPointTypeCode", "2")  # an IP address
        made.set("NetworkAccessPointID", one.address)
    if one.role is not None:
        _coded(made, "RoleIDCode", one.role)


def _object(message: Element, thing: Object) -> None:
    made = SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=thing.id,
        ParticipantObjectTypeCode=thing.type,
    )
    if thing.role:
        made.set("ParticipantObjectTypeCodeRole", thing.role)
    _coded(made, "ParticipantObjectIDTypeCode", thing.named_by)
    if thing.name:
        SubElement(made, "ParticipantObjectName").text = thing.name
