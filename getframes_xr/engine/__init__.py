"""The one mechanism: producers of windows, stages, the lazy face on dask, reductions along time, memory plans."""
