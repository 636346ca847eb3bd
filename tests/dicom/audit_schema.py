"""The rules of PS3.15 section A.5.1 on an audit message, and of A.5.3 on what events require."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from xml.etree.ElementTree import Element

# element: (attribute: allowed values, or none for any; required ones begin with !)
ATTRIBUTES: dict[str, dict[str, set[str] | None]] = {
    "AuditMessage": {},
    "EventIdentification": {
        "EventActionCode": set("CRUDE"),
        "!EventDateTime": None,
        "!EventOutcomeIndicator": {"0", "4", "8", "12"},
    },
    "ActiveParticipant": {
        "!UserID": None,
        "AlternativeUserID": None,
        "UserName": None,
        "!UserIsRequestor": {"true", "false"},
        "NetworkAccessPointID": None,
        "NetworkAccessPointTypeCode": {"1", "2", "3", "4", "5"},
    },
    "AuditSourceIdentification": {"AuditEnterpriseSiteID": None, "!AuditSourceID": None},
    "ParticipantObjectIdentification": {
        "!ParticipantObjectID": None,
        "ParticipantObjectTypeCode": {"1", "2", "3", "4"},
        "ParticipantObjectTypeCodeRole": {str(one) for one in range(1, 27)},
        "ParticipantObjectDataLifeCycle": {str(one) for one in range(1, 16)},
        "ParticipantObjectSensitivity": None,
    },
    "ParticipantObjectName": {},
    **{
        name: {
            "!csd-code": None,
            "!codeSystemName": None,
            "displayName": None,
            "!originalText": None,
        }
        for name in ("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode")
    },
}
# element: its children in order, with the least and the most of each
CHILDREN: dict[str, list[tuple[str, int, float]]] = {
    "AuditMessage": [
        ("EventIdentification", 1, 1),
        ("ActiveParticipant", 1, float("inf")),
        ("AuditSourceIdentification", 1, 1),
        ("ParticipantObjectIdentification", 0, float("inf")),
    ],
    "EventIdentification": [("EventID", 1, 1), ("EventTypeCode", 0, float("inf"))],
    "ActiveParticipant": [("RoleIDCode", 0, float("inf"))],
    "ParticipantObjectIdentification": [
        ("ParticipantObjectIDTypeCode", 1, 1),
        ("ParticipantObjectName", 0, 1),
    ],
}


def faults(message: Element) -> Iterator[str]:
    """Say what of a message the schema does not allow."""
    if message.tag != "AuditMessage":
        yield f"the root is {message.tag}"
    for element in message.iter():
        if element.tag not in ATTRIBUTES:
            yield f"{element.tag} is no element of a message"
            continue
        allowed = {name.lstrip("!"): values for name, values in ATTRIBUTES[element.tag].items()}
        for name in ATTRIBUTES[element.tag]:
            if name.startswith("!") and not element.get(name[1:]):
                yield f"{element.tag} lacks {name[1:]}"
        for name, value in element.attrib.items():
            if name not in allowed:
                yield f"{element.tag} has {name}"
            elif (values := allowed[name]) is not None and value not in values:
                yield f"{element.tag} {name}={value}"
        yield from _order(element)
    yield from _sense(message)


def _order(element: Element) -> Iterator[str]:
    rules = CHILDREN.get(element.tag, [])
    names = [child.tag for child in element]
    order = [name for name, _, _ in rules]
    if [name for name in order for _ in range(names.count(name))] != names:
        yield f"{element.tag} holds {names}"
    for name, least, most in rules:
        if not least <= names.count(name) <= most:
            yield f"{element.tag} has {names.count(name)} {name}"


def _sense(message: Element) -> Iterator[str]:
    told = message.find("EventIdentification")
    assert told is not None
    when = datetime.fromisoformat(told.get("EventDateTime", ""))
    if when.tzinfo is None:
        yield "EventDateTime has no time zone"
    for one in message.iter("ActiveParticipant"):
        if ("NetworkAccessPointID" in one.attrib) != ("NetworkAccessPointTypeCode" in one.attrib):
            yield "an access point needs both its id and its type"


def code(message: Element, path: str) -> str:
    """A code of the message, by the path to its element."""
    found = message.find(path)
    assert found is not None, path
    return found.get("csd-code", "")
