"""Projects' cases and readings, roles by project, edits, and where an act came from."""

import sqlalchemy as sa
from alembic import op

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
    with op.batch_alter_table("user") as table:
        table.drop_column("role")
        table.add_column(sa.Column("origin", sa.String(), nullable=False, server_default="local"))
        table.add_column(sa.Column("groups", sa.JSON(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("email", sa.String(), nullable=False, server_default=""))
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
    op.create_table(
        "reading",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("enrolment_id", sa.String(), sa.ForeignKey("enrolment.id"), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
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
    op.create_index("ix_reading_to_do", "reading", ["reader_id", "state", "rank", "ready_at", "id"])
    op.create_index("ix_reading_project_state", "reading", ["project", "state"])
    op.add_column("result", sa.Column("author", sa.String(), nullable=False, server_default=""))
    op.add_column("result", sa.Column("edits", sa.String()))
    op.add_column("job", sa.Column("edits", sa.String()))
    op.add_column("audit", sa.Column("address", sa.String(), nullable=False, server_default=""))
    op.add_column("audit", sa.Column("session", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    for name, columns in {
        "audit": ("session", "address"), "job": ("edits",), "result": ("edits", "author"),
    }.items():  # fmt: skip
        for column in columns:
            op.drop_column(name, column)
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
    with op.batch_alter_table("user") as table:
        table.add_column(sa.Column("role", sa.String(), nullable=False, server_default="reader"))
        table.drop_column("email")
        table.drop_column("groups")
        table.drop_column("origin")
    op.drop_table("held_role")
