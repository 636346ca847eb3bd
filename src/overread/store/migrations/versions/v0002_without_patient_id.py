"""An index of what came without PatientID, by what then stands for it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_instance_without_patient_id",
        "instance",
        ["study_uid", "patient_name", "patient_birth_date"],
        unique=False,
        sqlite_where=sa.text("patient_id = ''"),
        postgresql_where=sa.text("patient_id = ''"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_instance_without_patient_id",
        table_name="instance",
        sqlite_where=sa.text("patient_id = ''"),
        postgresql_where=sa.text("patient_id = ''"),
    )
