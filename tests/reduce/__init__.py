"""Tests of the room reduce."""
