"""Faults planted on purpose, one at a time, to see whether the tests named for them notice (``make mutants``)."""
