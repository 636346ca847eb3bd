from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

import overread
from overread.portal.told import SHOWN
from overread.store.audit import Entry
from overread.store.audit_message import EVENTS, message
from overread.store.database import Database
from tests.dicom.audit_schema import code, faults

AT = datetime(2026, 6, 2, 9, 30, tzinfo=UTC)
SOURCE = Path(overread.__file__).parent


def told_actions() -> Iterator[tuple[str, str]]:
    """Every action that the source tells the audit of, and where."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else ""
                place = {"record": 3, "tell": 2}.get(name)
                if place is None and isinstance(node.func, ast.Attribute):
                    place = {"record": 3, "tell": 2}.get(node.func.attr)
                    if not isinstance(node.func.value, ast.Name):
                        place = None
                if place is not None and len(node.args) > place:
                    said = node.args[place]
                    if isinstance(said, ast.Constant) and isinstance(said.value, str):
                        yield said.value, f"{file.relative_to(SOURCE)}:{node.lineno}"
    for action, _ in SHOWN.values():
        yield action, "portal/told.py"


def test_every_action_that_is_told_is_an_event_of_the_standard() -> None:
    found = dict(told_actions())
    assert len(found) > 12
    assert {action: where for action, where in found.items() if action not in EVENTS} == {}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('d') / 'o.sqlite'}")
    made.upgrade()
    return made


@pytest.mark.parametrize("action", EVENTS)
def test_every_event_is_a_message_that_the_schema_allows(database: Database, action: str) -> None:
    row = Entry(7, AT, "rosa", action, "case 3f", {}, "10.0.0.7", "5e")
    with database.read() as session:
        said = fromstring(message(session, row, "Phantom clinic"))  # noqa: S314 - our own
    assert list(faults(said)) == []
    types = [one.get("csd-code") for one in said.iter("EventTypeCode")]
    assert types[-1] == action.replace(" ", "-")
    if code(said, "EventIdentification/EventID") == "110101":  # A.5.3.2: the log itself is named
        (log,) = said.iter("ParticipantObjectName")
        assert log.text == "Security Audit Log"
    if code(said, "EventIdentification/EventID") == "110114":  # A.5.3.11: login or logout
        assert types[0] in {"110122", "110123"}


def test_what_the_house_did_by_itself_has_one_participant(database: Database) -> None:
    row = Entry(7, AT, "overread", "enrol case", "case 3f", {})
    with database.read() as session:
        said = fromstring(message(session, row, ""))  # noqa: S314 - our own
    (who,) = said.iter("ActiveParticipant")
    assert who.attrib == {"UserID": "overread", "UserIsRequestor": "false"}
    assert list(faults(said)) == []
