"""Measures: arrays and numbers only."""
