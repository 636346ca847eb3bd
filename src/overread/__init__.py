"""Overread: puts a radiology model in front of clinicians and measures whether it helps."""

__version__ = "0.1.0"
