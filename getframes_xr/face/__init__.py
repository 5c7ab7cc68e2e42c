"""The lazy face: producers as xarray Datasets on dask, and back; budgets and windows of a run."""
