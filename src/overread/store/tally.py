"""The triggers that keep `overread.store.tables.Tally`, in both databases' words.

Only first readings count: an amendment is the same reading again.
"""

from __future__ import annotations

_ADD = """\
INSERT INTO tally (reader_id, state, project, pipeline, rank, count, changes)
VALUES (NEW.reader_id, NEW.state, NEW.project, NEW.pipeline, NEW.rank, 1, 1)
ON CONFLICT (reader_id, state, project, pipeline, rank)
DO UPDATE SET count = tally.count + 1, changes = tally.changes + 1"""
_TAKE = """\
UPDATE tally SET count = count - 1, changes = changes + 1
WHERE reader_id = OLD.reader_id AND state = OLD.state AND project = OLD.project
AND pipeline = OLD.pipeline AND rank = OLD.rank"""
_MOVED = "(OLD.state, OLD.rank, OLD.project, OLD.pipeline)"
_EVENTS = {
    "added": ("INSERT", "NEW.amends = ''", (_ADD,)),
    "moved": (
        "UPDATE",
        f"NEW.amends = '' AND {_MOVED} <> {_MOVED.replace('OLD', 'NEW')}",
        (_TAKE, _ADD),
    ),
    "taken": ("DELETE", "OLD.amends = ''", (_TAKE,)),
}


def triggers(dialect: str) -> list[str]:
    """List the statements that make them, on ``sqlite`` or ``postgresql``."""
    made = []
    for name, (event, when, acts) in _EVENTS.items():
        body = "; ".join(acts)
        if dialect == "sqlite":
            made.append(
                f"CREATE TRIGGER tally_{name} AFTER {event} ON reading WHEN {when} "
                f"BEGIN {body}; END"
            )
            continue
        made += [
            f"CREATE FUNCTION tally_{name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$BEGIN {body}; RETURN NULL; END$$",
            f"CREATE TRIGGER tally_{name} AFTER {event} ON reading FOR EACH ROW "
            f"WHEN ({when}) EXECUTE FUNCTION tally_{name}()",
        ]
    return made


def without_triggers(dialect: str) -> list[str]:
    """List the statements that drop them."""
    if dialect == "sqlite":
        return [f"DROP TRIGGER tally_{name}" for name in _EVENTS]
    return [f"DROP FUNCTION tally_{name}() CASCADE" for name in _EVENTS]
