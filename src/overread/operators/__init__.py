"""Operators: one unit of work each, with typed inputs and outputs."""
