"""Frames to numbers: background, stars, registration, photometry."""
