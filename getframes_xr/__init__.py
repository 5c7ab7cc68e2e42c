"""getframes-xr."""
