"""Sources of light: one file each; every module of this folder is read, so a new one is one new file."""

from importlib import import_module
from pkgutil import iter_modules

from getframes_xr.light.sources.family import SOURCES, AnySource, Light, Source
from getframes_xr.light.sources.galaxy import Galaxy
from getframes_xr.light.sources.picture import Picture
from getframes_xr.light.sources.sky import Sky
from getframes_xr.light.sources.star_field import StarField
from getframes_xr.light.sources.stars import Stars
from getframes_xr.light.sources.trails import SatelliteTrail, SatelliteTrails

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "SOURCES", "AnySource", "Galaxy", "Light", "Picture", "SatelliteTrail", "SatelliteTrails", "Sky", "Source",
    "StarField", "Stars",
]  # fmt: skip
