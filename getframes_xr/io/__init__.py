"""In and out: FITS windows, Zarr stores with a journal, sessions, pictures."""
