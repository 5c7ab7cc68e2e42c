"""Whole jobs: scripts of public functions from the rooms below."""
