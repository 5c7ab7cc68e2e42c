"""Splat: raw frames deposited on one canvas, each sample in the plane of its own colour.

moves (what registration and normalisation say) -> first_image (robust, nothing rejected) -> residual_bins, shared_bins,
lines, line_fit (trails found and left out) -> splat (each sample compared with the first image). deposit holds the
kernels, tiles the geometry of a window.
"""
