"""Run the revisions on the connection that `Database.upgrade` hands over, in its transaction."""

from alembic import context

from overread.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
