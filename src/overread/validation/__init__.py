"""Validation: results, permissions; later projects, readings, statistics."""
