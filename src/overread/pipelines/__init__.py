"""Pipelines: what one is, what is wrong with it, and the states a job goes through."""
