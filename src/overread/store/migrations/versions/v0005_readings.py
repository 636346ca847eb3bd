"""Projects' cases and readings, roles by project, edits, and where an act came from."""

import sqlalchemy as sa
from alembic import op

from overread.store import append_only, submitted, tally
from overread.store.tables import name_key

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "held_role",
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), primary_key=True),
        sa.Column("role", sa.String(), primary_key=True),
        sa.Column("project", sa.String(), primary_key=True),
    )
    op.execute(
        "INSERT INTO held_role (user_id, role, project) SELECT id, "
        "CASE role WHEN 'admin' THEN 'administrator' ELSE role END, '' FROM \"user\""
    )
    # Not in a batch: that makes the table anew on SQLite, and rows refer to the old one's.
    op.drop_column("user", "role")
    for name, kind, default in (
        ("origin", sa.String(), "local"),
        ("subject", sa.String(), ""),
        ("groups", sa.JSON(), "[]"),
        ("email", sa.String(), ""),
    ):
        op.add_column("user", sa.Column(name, kind, nullable=False, server_default=default))
    # Whoever is signed in signs in again: the old rows do not say when they end.
    op.drop_table("session")
    op.create_table(
        "session",
        sa.Column("token_digest", sa.String(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("csrf", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False, server_default=""),
        sa.Column("scopes", sa.JSON()),
        sa.Column("address", sa.String(), nullable=False, server_default=""),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("seen_at", WHEN, nullable=False),
        sa.Column("expires_at", WHEN, nullable=False),
        sa.Column("ends_at", WHEN, nullable=False),
    )
    op.create_index("ix_session_user_id", "session", ["user_id"])
    op.create_table(
        "failed_sign_in",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("pair", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
    )
    op.create_index("ix_failed_sign_in_pair_at", "failed_sign_in", ["pair", "at"])
    op.create_index("ix_failed_sign_in_address_at", "failed_sign_in", ["address", "at"])
    op.create_table(
        "enrolment",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("root_id", sa.String(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("enrolled_at", WHEN, nullable=False),
        sa.Column("ready_at", WHEN),
        sa.UniqueConstraint("project", "root_id", name="uq_enrolment_project_root_id"),
    )
    op.create_index("ix_enrolment_root_id", "enrolment", ["root_id"])
    by_time = ["enrolled_at", "id"]
    op.create_index("ix_enrolment_project_enrolled_at_id", "enrolment", ["project", *by_time])
    op.create_index(
        "ix_enrolment_project_pipeline_enrolled_at_id",
        "enrolment",
        ["project", "pipeline", *by_time],
    )
    _partial("ix_enrolment_not_ready", "enrolment", ["project", "enrolled_at"], "ready_at IS NULL")
    op.create_table(
        "reading",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("enrolment_id", sa.String(), sa.ForeignKey("enrolment.id"), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("reader_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("ready_at", WHEN, nullable=False),
        sa.Column("due_at", WHEN),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("form_digest", sa.String(), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("opened_at", WHEN),
        sa.Column("saved_at", WHEN),
        sa.Column("submitted_at", WHEN),
        sa.Column("amends", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.UniqueConstraint("enrolment_id", "reader_id", "amends"),
    )
    op.create_index(
        "ix_reading_queue",
        "reading",
        ["reader_id", "state", "project", "pipeline", "rank", "ready_at", "id"],
    )
    op.create_index("ix_reading_project_state", "reading", ["project", "state"])
    for statement in submitted.triggers(op.get_bind().dialect.name):
        op.execute(statement)
    _make_lists()
    _make_search()
    op.create_index("ix_exam_instance_instance_id", "exam_instance", ["instance_id"])
    op.create_index("ix_result_instance_id", "result", ["instance_id"])
    op.add_column("result", sa.Column("author", sa.String(), nullable=False, server_default=""))
    op.add_column("result", sa.Column("edits", sa.String()))
    op.add_column("result", sa.Column("project", sa.String(), nullable=False, server_default=""))
    op.add_column("job", sa.Column("edits", sa.String()))
    op.add_column("audit", sa.Column("address", sa.String(), nullable=False, server_default=""))
    op.add_column("audit", sa.Column("session", sa.String(), nullable=False, server_default=""))
    _make_chain()


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _make_lists() -> None:
    """Make what the worklist and its notices stand on."""
    op.create_table(
        "tally",
        sa.Column("reader_id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), primary_key=True),
        sa.Column("project", sa.String(), primary_key=True),
        sa.Column("pipeline", sa.String(), primary_key=True),
        sa.Column("rank", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
    )
    for statement in tally.triggers(op.get_bind().dialect.name):
        op.execute(statement)
    op.create_table(
        "considered",
        sa.Column("project", sa.String(), primary_key=True),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("exam_id", sa.String(), nullable=False),
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("enrolment_id", sa.String(), sa.ForeignKey("enrolment.id"), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("next_at", WHEN, nullable=False),
        sa.UniqueConstraint("enrolment_id", "channel", "user_id", "urgent"),
    )
    _partial("ix_notice_waiting", "notice", ["next_at"], "state = 'waiting'")


def _make_search() -> None:
    """Make what the lists of cases are found and ordered by."""
    key = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.add_column("exam", sa.Column("name_key", key, nullable=False, server_default=""))
    exam = sa.table("exam", sa.column("id"), sa.column("patient_name"), sa.column("name_key"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(exam.c.id, exam.c.patient_name)).all():
        found = sa.update(exam).where(exam.c.id == row.id)
        connection.execute(found.values(name_key=name_key(row.patient_name)))
    op.create_index("ix_exam_patient_id_issuer", "exam", ["patient_id", "issuer"])
    op.create_index("ix_exam_name_key_id", "exam", ["name_key", "id"])
    op.create_index("ix_exam_opened_at_id", "exam", ["opened_at", "id"])
    op.create_index("ix_exam_pipeline_opened_at_id", "exam", ["pipeline", "opened_at", "id"])
    for table, moment in (("exam", "opened_at"), ("job", "created_at")):
        op.drop_index(f"ix_{table}_state", table)
        op.create_index(f"ix_{table}_state_{moment}_id", table, ["state", moment, "id"])


def _drop_lists() -> None:
    for table, moment in (("exam", "opened_at"), ("job", "created_at")):
        op.drop_index(f"ix_{table}_state_{moment}_id", table)
        op.create_index(f"ix_{table}_state", table, ["state"])
    for name in ("pipeline_opened_at_id", "opened_at_id", "name_key_id", "patient_id_issuer"):
        op.drop_index(f"ix_exam_{name}", "exam")
    op.drop_column("exam", "name_key")
    for statement in tally.without_triggers(op.get_bind().dialect.name):
        op.execute(statement)
    for name in ("notice", "considered", "tally"):
        op.drop_table(name)


def _make_chain() -> None:
    op.create_table(
        "audit_seal",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("rows", sa.JSON(), nullable=False),
        sa.Column("last_id", sa.Integer(), nullable=False),
        sa.Column("gaps", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("head", sa.String(), nullable=False),
    )
    op.create_table(
        "series_given",
        sa.Column("sign_in", sa.String(), primary_key=True),
        sa.Column("series_uid", sa.String(), primary_key=True),
    )
    op.create_table(
        "site_file",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
    )
    for statement in append_only.triggers(op.get_bind().dialect.name):
        op.execute(statement)


def _drop_chain() -> None:
    for statement in append_only.without_triggers(op.get_bind().dialect.name):
        op.execute(statement)
    for table in ("site_file", "series_given", "audit_seal"):
        op.drop_table(table)


def downgrade() -> None:
    connection = op.get_bind()
    kept = connection.scalar(
        sa.text("SELECT (SELECT count(*) FROM reading) + "
                "(SELECT count(*) FROM result WHERE author <> '')")
    )  # fmt: skip
    if kept:
        raise ValueError(
            f"revision 0004 has no place for {kept} readings and readers' edits that are here; "
            "bring back the backup that was made before the upgrade"
        )
    _drop_chain()
    op.drop_index("ix_result_instance_id", "result")
    op.drop_index("ix_exam_instance_instance_id", "exam_instance")
    op.drop_table("failed_sign_in")
    _drop_lists()
    for name, columns in {
        "audit": ("session", "address"), "job": ("edits",),
        "result": ("project", "edits", "author"),
    }.items():  # fmt: skip
        for column in columns:
            op.drop_column(name, column)
    for statement in submitted.without_triggers(op.get_bind().dialect.name):
        op.execute(statement)
    op.drop_table("reading")
    op.drop_table("enrolment")
    op.drop_table("session")
    op.create_table(
        "session",
        sa.Column("token_digest", sa.String(), primary_key=True),
        sa.Column("user_id", sa.String(), sa.ForeignKey("user.id"), nullable=False),
        sa.Column("csrf", sa.String(), nullable=False),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("seen_at", WHEN, nullable=False),
        sa.Column("expires_at", WHEN, nullable=False),
    )
    # Who holds a role in a project only may do nothing in a house whose roles are the whole site's.
    op.add_column("user", sa.Column("role", sa.String(), nullable=False, server_default=""))
    for role, held in (("reader", "reader"), ("engineer", "engineer"), ("admin", "administrator")):
        op.execute(
            f"UPDATE \"user\" SET role = '{role}' WHERE id IN "
            f"(SELECT user_id FROM held_role WHERE role = '{held}' AND project = '')"
        )
    for name in ("email", "groups", "subject", "origin"):
        op.drop_column("user", name)
    op.drop_table("held_role")
