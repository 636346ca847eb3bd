"""The triggers that keep the audit and its chain from being changed, in both databases' words.

They stop what is done by mistake, and by an account that may not change the schema. What is done by
one that may is noticed by the chain: `overread.store.seal`.
"""

from __future__ import annotations

_TABLES = ("audit", "audit_seal")
_SQLITE = ("update", "delete", "replace")


def triggers(dialect: str) -> list[str]:
    """List the statements that make them, on ``sqlite`` or ``postgresql``."""
    return [one for table in _TABLES for one in _triggers(dialect, table)]


def _triggers(dialect: str, table: str) -> list[str]:
    refusal = f"rows of {table} are only ever appended"
    if dialect == "sqlite":
        events = {
            "update": "BEFORE UPDATE",
            "delete": "BEFORE DELETE",
            # INSERT OR REPLACE removes the row that it replaces without asking the one above
            "replace": "BEFORE INSERT",
        }
        there = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) "
        return [
            f"CREATE TRIGGER {table}_no_{name} {events[name]} ON {table} "
            f"{there if name == 'replace' else ''}BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            for name in _SQLITE
        ]
    return [
        f"CREATE FUNCTION {table}_no_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION '{refusal}'; END$$",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_no_change()",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_no_change()",
    ]


def without_triggers(dialect: str) -> list[str]:
    """List the statements that drop them."""
    if dialect == "sqlite":
        return [f"DROP TRIGGER {table}_no_{name}" for table in _TABLES for name in _SQLITE]
    return [f"DROP FUNCTION {table}_no_change() CASCADE" for table in _TABLES]
