"""Things kept: the database, the archive, the audit."""
