"""The triggers that keep a submitted reading from being changed, in both databases' words.

They stop what is done by mistake, and by an account that may not change the schema.
"""

from __future__ import annotations

_REFUSAL = "a submitted reading is never changed; amend it by a new one"


def triggers(dialect: str) -> list[str]:
    """List the statements that make them, on ``sqlite`` or ``postgresql``."""
    if dialect == "sqlite":
        # INSERT OR REPLACE removes the row that it replaces without asking the trigger on DELETE
        there = (
            "EXISTS (SELECT 1 FROM reading AS old WHERE old.state = 'submitted' AND (old.id = "
            "NEW.id OR (old.enrolment_id = NEW.enrolment_id AND old.reader_id = NEW.reader_id "
            "AND old.amends = NEW.amends)))"
        )
        return [
            f"CREATE TRIGGER reading_submitted_no_{name} BEFORE {event} ON reading "
            f"WHEN {condition} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            for name, event, condition in (
                ("update", "UPDATE", "OLD.state = 'submitted'"),
                ("delete", "DELETE", "OLD.state = 'submitted'"),
                ("replace", "INSERT", there),
            )
        ]
    return [
        "CREATE FUNCTION reading_submitted() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION '{_REFUSAL}'; END$$",
        "CREATE TRIGGER reading_submitted BEFORE UPDATE OR DELETE ON reading FOR EACH ROW "
        "WHEN (OLD.state = 'submitted') EXECUTE FUNCTION reading_submitted()",
        "CREATE TRIGGER reading_no_truncate BEFORE TRUNCATE ON reading "
        "FOR EACH STATEMENT EXECUTE FUNCTION reading_submitted()",
    ]


def without_triggers(dialect: str) -> list[str]:
    """List the statements that drop them."""
    if dialect == "sqlite":
        return [
            f"DROP TRIGGER reading_submitted_no_{name}" for name in ("update", "delete", "replace")
        ]
    return ["DROP FUNCTION reading_submitted() CASCADE"]
