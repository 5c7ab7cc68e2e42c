"""Frames to images: masters, calibration, cosmetics, warp, splat, stack."""
