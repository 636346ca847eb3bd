"""Revisions of the schema, run by `overread.store.database.Database.upgrade`."""
