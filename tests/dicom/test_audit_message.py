from __future__ import annotations

from datetime import UTC, datetime
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from overread.dicom import audit_message as dicom
from overread.dicom.audit_message import Event, Object, Participant
from overread.dicom.codes import Code
from tests.dicom.audit_schema import code, faults

AT = datetime(2026, 6, 2, 9, 30, 15, 250_000, tzinfo=UTC)
# what XML 1.0 can hold
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1)


def test_a_message_has_the_elements_of_the_standard() -> None:
    text = dicom.audit_message(
        Event(dicom.INSTANCES_ACCESSED, "R", (dicom.RESTRICTED_FUNCTION,), outcome="4"),
        AT,
        [
            Participant("rosa", requestor=True, address="10.0.0.7", alternative="5e"),
            Participant("overread", requestor=False, role=Code("110150", "DCM", "Application")),
        ],
        [
            Object("2.25.7", dicom.STUDY_UID, role="3"),
            Object("PH-1", dicom.PATIENT_NUMBER, dicom.PERSON, "1", name="no name"),
        ],
        source="overread",
        site="Phantom clinic",
    )
    message = fromstring(text)  # noqa: S314 - our own
    assert list(faults(message)) == []
    assert "\n" not in text
    assert code(message, "EventIdentification/EventID") == "110103"
    told = message.find("EventIdentification")
    assert told is not None
    assert told.attrib == {
        "EventActionCode": "R",
        "EventDateTime": "2026-06-02T09:30:15.250+00:00",
        "EventOutcomeIndicator": "4",
    }
    first = message.find("ActiveParticipant")
    assert first is not None
    assert first.get("NetworkAccessPointTypeCode") == "2"


def test_our_codes_are_the_standards() -> None:
    """Value and meaning, as pydicom has them from PS3.16."""
    known = {
        value: meaning
        for values in concepts["DCM"].values()
        for value, (meaning, *_) in dict(values).items()  # type: ignore[call-overload]  # theirs is untyped
    }
    ours = [one for one in vars(dicom).values() if isinstance(one, Code) and one.scheme == "DCM"]
    assert len(ours) > 15
    assert {one.value: one.meaning for one in ours} == {one.value: known[one.value] for one in ours}


@given(user=TEXT, name=TEXT, site=TEXT)
def test_whatever_stands_in_it_is_text(user: str, name: str, site: str) -> None:
    text = dicom.audit_message(
        Event(dicom.QUERY, "E"),
        AT,
        [Participant(user, requestor=True)],
        [Object("1", dicom.URI, name=name)],
        source="overread",
        site=site,
    )
    message = fromstring(text)  # noqa: S314 - our own
    assert list(faults(message)) == []
    (who,) = message.iter("ActiveParticipant")
    (what,) = message.iter("ParticipantObjectName")
    assert (who.get("UserID"), what.text) == (user, name)


def test_what_the_standard_does_not_allow_is_refused() -> None:
    event = Event(dicom.QUERY, "E")
    with pytest.raises(ValueError, match="ActiveParticipant"):
        dicom.audit_message(event, AT, [], [], source="overread")
    naive = AT.replace(tzinfo=None)
    with pytest.raises(ValueError, match="no time zone"):
        dicom.audit_message(event, naive, [Participant("a", requestor=True)], [], source="overread")
