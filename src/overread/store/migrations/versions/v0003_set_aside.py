"""Indexes of what is set aside: copies in conflict, and arrivals that are held."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_instance_conflict": ("instance", "standing = 'conflict'"),
    "ix_arrival_held": ("arrival", "substr(disposition, 1, 5) = 'held:'"),
}


def upgrade() -> None:
    for name, (table, where) in _INDEXES.items():
        op.create_index(
            name,
            table,
            ["id"],
            unique=False,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )


def downgrade() -> None:
    for name, (table, where) in _INDEXES.items():
        op.drop_index(
            name, table_name=table, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
