"""What falls on the detector: sources, point spread functions, telescope, bands, pointing, sky."""
