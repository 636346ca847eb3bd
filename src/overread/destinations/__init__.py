"""Destinations: where we send."""
