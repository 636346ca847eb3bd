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


PLACES = {"record": 3, "told": 3, "tell": 2, "tell_once": 1}
"""Where each function that tells the audit takes the action."""


def told_actions() -> Iterator[tuple[str, str]]:
    """Every action that the source tells the audit of, and where."""
    for file in SOURCE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        named = {  # where a variable says which, each constant that it can be
            target.id: [one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)]
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in ("action", "what")
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(
                node.func, ast.Name | ast.Attribute
            ):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if len(node.args) <= PLACES.get(name, 99):
                continue
            said = node.args[PLACES[name]]
            values = [said.value] if isinstance(said, ast.Constant) else []
            if isinstance(said, ast.Name):
                values = named.get(said.id, [])
            for value in values:
                if isinstance(value, str) and value:
                    yield value, f"{file.relative_to(SOURCE)}:{node.lineno}"
    for action, _ in SHOWN.values():
        yield action, "portal/told.py"


def test_every_action_that_is_told_is_an_event_of_the_standard() -> None:
    found = dict(told_actions())
    assert len(found) > 40
    assert {action: where for action, where in found.items() if action not in EVENTS} == {}
    assert sorted(EVENTS.keys() - found - {"refuse"}) == []  # none is told of no more


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
