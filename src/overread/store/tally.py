"""The triggers that keep `overread.store.tables.Tally`, in both databases' words.

Only first readings count: an amendment is the same reading again. SQLite looks at each row. So
would many rows of one statement cost PostgreSQL dear, as each writes the same few counts anew; it
looks once after each statement.
"""

from __future__ import annotations

_KEY = "reader_id, state, project, pipeline, rank"

_ADD = f"""\
INSERT INTO tally ({_KEY}, count, changes)
VALUES (NEW.reader_id, NEW.state, NEW.project, NEW.pipeline, NEW.rank, 1, 1)
ON CONFLICT ({_KEY}) DO UPDATE SET count = count + 1, changes = changes + 1"""
_TAKE = """\
UPDATE tally SET count = count - 1, changes = changes + 1
WHERE reader_id = OLD.reader_id AND state = OLD.state AND project = OLD.project
AND pipeline = OLD.pipeline AND rank = OLD.rank"""
_MOVED = "(OLD.state, OLD.rank, OLD.project, OLD.pipeline)"
_BY_ROW = {
    "insert": ("NEW.amends = ''", (_ADD,)),
    "update": (
        f"NEW.amends = '' AND {_MOVED} <> {_MOVED.replace('OLD', 'NEW')}",
        (_TAKE, _ADD),
    ),
    "delete": ("OLD.amends = ''", (_TAKE,)),
}

_ADDED = f"SELECT {_KEY}, 1 AS number FROM added WHERE amends = ''"
_TAKEN = f"SELECT {_KEY}, -1 AS number FROM taken WHERE amends = ''"
_BY_STATEMENT = {
    "insert": ("NEW TABLE AS added", _ADDED),
    "update": ("OLD TABLE AS taken NEW TABLE AS added", f"{_ADDED} UNION ALL {_TAKEN}"),
    "delete": ("OLD TABLE AS taken", _TAKEN),
}


def triggers(dialect: str) -> list[str]:
    """List the statements that make them, on ``sqlite`` or ``postgresql``."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER tally_{event} AFTER {event} ON reading WHEN {when} "
            f"BEGIN {'; '.join(acts)}; END"
            for event, (when, acts) in _BY_ROW.items()
        ]
    made = []
    for event, (tables, moved) in _BY_STATEMENT.items():
        # In the order of the key: two writers then take the rows in one order, and none waits for
        # one that waits for it.
        act = (
            f"INSERT INTO tally ({_KEY}, count, changes) "
            f"SELECT {_KEY}, sum(number), 1 FROM ({moved}) AS moved GROUP BY {_KEY} "
            f"HAVING sum(number) <> 0 ORDER BY {_KEY} ON CONFLICT ({_KEY}) "
            "DO UPDATE SET count = tally.count + excluded.count, changes = tally.changes + 1"
        )
        made += [
            f"CREATE FUNCTION tally_{event}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$BEGIN {act}; RETURN NULL; END$$",
            f"CREATE TRIGGER tally_{event} AFTER {event} ON reading REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION tally_{event}()",
        ]
    return made


def without_triggers(dialect: str) -> list[str]:
    """List the statements that drop them."""
    if dialect == "sqlite":
        return [f"DROP TRIGGER tally_{event}" for event in _BY_ROW]
    return [f"DROP FUNCTION tally_{event}() CASCADE" for event in _BY_ROW]
