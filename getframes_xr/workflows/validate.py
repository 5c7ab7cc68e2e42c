"""``validate``: simulate a night, reduce it without being told the truth, compare the result with the truth.

The raw frames are written to a Zarr store with only what a camera's file would say; pointing, seeing, transparency and
the scene stay behind. After the reduction the truth is laid beside the result:

    transforms     corners of every frame through the true and the measured map, up to one common similarity [px]
    transparency   measured / true, scaled to median 1
    flux           aperture sums on the stack / true electrons of isolated stars; one scale per band, then its spread
    noise          robust spread of the background / the stack's own noise plane
    frames         which ruined ones were named, how many good ones were lost
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from getframes_xr.core.mapping import Affine, apply
from getframes_xr.core.patch import Array
from getframes_xr.core.verdict import Verdict
from getframes_xr.detector.camera import Camera
from getframes_xr.detector.stages.quantum_efficiency import QuantumEfficiency
from getframes_xr.io.store import save_frames
from getframes_xr.io.tables import save_table
from getframes_xr.io.zarr import open_store
from getframes_xr.light.exposures import Exposures
from getframes_xr.light.pointing import FieldRotation, Jolt, Pointing
from getframes_xr.light.psf import Moffat
from getframes_xr.light.scene import Scene, SceneFrames
from getframes_xr.light.sources.sky import Sky
from getframes_xr.light.sources.star_field import StarField
from getframes_xr.light.telescope import Telescope
from getframes_xr.measure.photometry import aperture_photometry
from getframes_xr.workflows.observe import Experiment, load_experiment, observe
from getframes_xr.workflows.run_folder import OnEvent
from getframes_xr.workflows.session import ReduceOptions, Run, reduce_session

HIDDEN = (
    "pointing_dy_px", "pointing_dx_px", "rotation_deg", "transparency", "seeing_fwhm_arcsec", "wcs", "sky_level",
    "truth_light_curve", "name",
)  # fmt: skip
HIDDEN_ATTRS = ("first_start", "scene_seed", "seed")
APERTURE_FWHM = 2.0  # radius of the aperture on the stack, in FWHM: the light outside is the same share for all stars


@dataclass(frozen=True)
class Figure:
    """One measured number, what it should be at most, and in which unit."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def passed(self) -> bool:
        return bool(abs(self.value) <= self.limit)


@dataclass(frozen=True)
class Validation:
    """A reduction laid beside its truth."""

    run: Run
    figures: tuple[Figure, ...]

    @property
    def passed(self) -> bool:
        return all(figure.passed for figure in self.figures)

    def __str__(self) -> str:
        lines = [f"{'against the truth':44} {'measured':>10} {'at most':>9}"]
        for figure in self.figures:
            mark = "" if figure.passed else "  MISSED"
            lines.append(f"{figure.name:44} {figure.value:10.4g} {figure.limit:9.4g} {figure.unit}{mark}")
        return "\n".join(lines)


def small_night() -> Experiment:
    """The default experiment: 24 short colour exposures of an alt-az night, one of them knocked."""
    return Experiment(
        scene=Scene(
            telescope=Telescope(aperture_diameter_m=0.05, throughput=0.8, plate_scale_arcsec_per_px=2.4, band="green"),
            psf=Moffat(fwhm_arcsec=7.5, beta=3.5),
            sources=(StarField(n=420, magnitude=(6.0, 12.5), seed=3), Sky(mag_per_arcsec2=19.0)),
            pointing=Pointing(
                jitter_arcsec=2.0,
                drift_arcsec_per_s=(0.03, -0.05),
                field_rotation=FieldRotation(rate_deg_per_s=0.02),
                jolts=(Jolt(frame=9, dy_arcsec=45.0, dx_arcsec=40.0),),
            ),
        ),
        camera=Camera.preset("seestar_s50").replace(shape=(540, 960)),
        exposures=Exposures(n=24, exposure_s=10.0, cadence_s=13.0, start="2026-03-01T20:00:00"),
        seed=1,
    )


def validate(
    experiment: Experiment | str | Path | None = None,
    *,
    out: str | Path,
    ruined: Sequence[int] | None = None,
    options: ReduceOptions | None = None,
    on_event: OnEvent | None = None,
) -> Validation:
    """Simulate, reduce, compare.

    Parameters
    ----------
    experiment : an Experiment, the path of its TOML, or None for a small night
    out : folder; gets ``raw/night.zarr`` (all the reduction sees), ``truth.npz`` and the run folder ``reduced``
    ruined : numbers of the frames that must be named and left out; those with a jolt by default
    options : of the reduction

    Raises
    ------
    DataError, OptionError : the experiment cannot be used
    RegistrationError : no frame can be verified
    StoreError : the folder is in use or holds another night
    """
    night = (
        experiment
        if isinstance(experiment, Experiment)
        else small_night()
        if experiment is None
        else load_experiment(experiment)
    )
    if ruined is None:
        ruined = [jolt.frame for jolt in night.scene.pointing.jolts]
    folder = Path(out)
    frames = observe(night.scene, night.camera, night.exposures, seed=night.seed, temperature_c=night.temperature_c)
    raw = folder / "raw" / "night.zarr"
    raw.parent.mkdir(parents=True, exist_ok=True)
    save_frames(without_truth(frames), raw, progress=_reporter(on_event))
    run = reduce_session(raw, out=folder / "reduced", options=options, on_event=on_event)
    truth = truth_of(night)
    save_table(truth, folder / "truth.npz")
    return Validation(run, tuple(compare(run, truth, night, ruined)))


def _reporter(on_event: OnEvent | None) -> Any:
    if on_event is None:
        return None
    return lambda state: on_event(
        {"event": "Progress", "phase": "simulate", "done": state.shards, "total": state.shards_total, "unit": "tiles"}
    )


def without_truth(frames: xr.Dataset) -> xr.Dataset:
    """The frames as a camera would hand them over: ``adu`` and what its header says."""
    kept = frames[["adu"]]
    kept = kept.drop_vars([name for name in HIDDEN if name in kept.variables])
    kept.attrs = {name: fact for name, fact in frames.attrs.items() if name not in HIDDEN_ATTRS}
    return kept


def true_transforms(frames: SceneFrames) -> Array:
    """Reference sky grid -> frame of every exposure at mid-exposure, (time, 2, 3), [y, x] = A @ [y, x, 1]."""
    found = np.empty((frames.grid.n_frames, 2, 3))
    for at in range(frames.grid.n_frames):
        view = frames.view(at)
        cosine, sine = view.geometry[0], view.geometry[1]
        turn = np.array([[cosine, sine], [-sine, cosine]])
        pivot, offset = np.array(view.pivot), np.array(view.offset_px)
        found[at, :, :2] = turn
        found[at, :, 2] = pivot + offset - turn @ pivot
    return found


def truth_of(night: Experiment) -> xr.Dataset:
    """What the reduction was not told: transforms, transparency, and the stars in electrons per exposure and band."""
    scene, camera = night.scene, night.camera
    light = scene.frames(camera.shape, night.exposures, night.seed, camera.cfa)
    sight = light.sight
    tables = [source.table(sight) for source in scene.sources if isinstance(source, StarField)]
    y, x, magnitude, colour = (
        (np.concatenate(column) for column in zip(*tables, strict=True)) if tables else [np.empty(0)] * 4
    )
    efficiency = [
        next((s.of_band(band if camera.cfa else None) for s in camera.stages if isinstance(s, QuantumEfficiency)), 1.0)
        for band in sight.bands
    ]
    electrons = sight.rates(magnitude, colour) * night.exposures.exposure_s * np.array(efficiency)
    columns = light.grid.columns or {}
    return xr.Dataset(
        {
            "transform": (("time", "axis", "term"), true_transforms(light)),
            "transparency": ("time", columns["transparency"]),
            "fwhm_px": ("time", columns["seeing_fwhm_arcsec"] / sight.scale),
            "star_y": ("star", y),
            "star_x": ("star", x),
            "electrons": (("star", "band"), electrons),
        },
        {"frame": ("time", columns["frame"]), "band": ("band", np.array(sight.bands, dtype=object))},
    )


def compare(run: Run, truth: xr.Dataset, night: Experiment, ruined: Sequence[int]) -> list[Figure]:
    """The figures of one run beside its truth."""
    records = run.manifest["frames"]
    used = np.array([bool(record["used"]) for record in records])
    order = np.searchsorted(truth["frame"].values, [record["frame"] for record in records])
    measured = np.array([np.asarray(record["transform"], float) for record in records])[used]
    shape = night.camera.shape
    to_stack, error = common_similarity(measured, truth["transform"].values[order][used], shape)
    share = (
        np.array([record["transparency"] for record in records], float)[used]
        / truth["transparency"].values[order][used]
    )
    share = share / np.median(share)
    bad = np.isin([record["frame"] for record in records], list(ruined))
    named = sum(not Verdict.from_dict(record).used for record in np.array(records, dtype=object)[bad])
    found = [
        Figure("transforms, rms over corners", float(np.sqrt((error**2).mean())), 0.03, "px"),
        Figure("transforms, worst frame", float(np.sqrt((error**2).mean(axis=(1, 2))).max()), 0.08, "px"),
        Figure("ruined frames not named", float(bad.sum() - named), 0.0, f"of {bad.sum()}"),
        Figure("good frames lost", float((~used & ~bad).sum()), np.floor(0.02 * (~bad).sum()), f"of {(~bad).sum()}"),
        Figure("transparency, rms error", float(100 * np.std(share)), 1.0, "%"),
    ]
    stack = stack_of(run)
    return [*found, *_fluxes(stack, truth, to_stack, night), *_noise(stack, truth, to_stack)]


def stack_of(run: Run) -> xr.Dataset:
    """The stack that a finished run made, by its manifest: the folder may hold those of other options too."""
    return open_store(run.folder / "phases" / f"stack-{run.manifest['phases']['stack']['keys'][-1]}.zarr").load()


def common_similarity(measured: Array, true: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """The similarity sky -> stack that fits all frames best, and what is left of it (frame, corner, axis).

    A point of the sky at true frame position q lies at ``measured(q)`` on the stack; that must not depend on the frame.
    """
    rows, columns = shape
    corners = np.array([[0, 0], [0, columns], [rows, 0], [rows, columns], [rows / 2, columns / 2]], float)
    skies, places = [], []
    for to_stack, to_sky in zip(measured, Affine(true).inverse.terms, strict=True):
        skies.append(apply(to_sky, corners))
        places.append(apply(to_stack, corners))
    sky, place = np.concatenate(skies), np.concatenate(places)
    columns_of = np.zeros((2 * len(sky), 4))
    columns_of[0::2] = np.stack([sky[:, 0], -sky[:, 1], np.ones(len(sky)), np.zeros(len(sky))], axis=1)
    columns_of[1::2] = np.stack([sky[:, 1], sky[:, 0], np.zeros(len(sky)), np.ones(len(sky))], axis=1)
    a, b, dy, dx = np.linalg.lstsq(columns_of, place.ravel(), rcond=None)[0]
    similarity = np.array([[a, -b, dy], [b, a, dx]])
    left = place - apply(similarity, sky)
    return similarity, left.reshape(len(measured), len(corners), 2)


def _fluxes(stack: xr.Dataset, truth: xr.Dataset, to_stack: Array, night: Experiment) -> list[Figure]:
    """Isolated unsaturated stars: aperture flux on the stack against true electrons."""
    place = apply(to_stack, np.stack([truth["star_y"].values, truth["star_x"].values], axis=1))
    electrons = truth["electrons"].values
    fwhm_px = float(np.median(truth["fwhm_px"].values)) * 1.1
    radius_px = APERTURE_FWHM * fwhm_px
    reach_px = radius_px + 14.0
    inside = (
        (place[:, 0] > float(stack.y[0]) + reach_px) & (place[:, 0] < float(stack.y[-1]) - reach_px)
        & (place[:, 1] > float(stack.x[0]) + reach_px) & (place[:, 1] < float(stack.x[-1]) - reach_px)
    )  # fmt: skip
    facts = night.camera.columns()
    full_well_e = 0.6 * (facts["saturation_adu"] - facts["bias_adu"]) * facts["gain_e_per_adu"]
    peak = electrons.max(axis=1) * 0.9 / (np.median(truth["fwhm_px"].values).item() ** 2 * 0.8)
    order = np.argsort(-electrons[:, 0], kind="stable")
    chosen: list[int] = []
    for at in order[: 40 * 25]:
        near = np.hypot(*(place - place[at]).T) < reach_px
        near[at] = False
        if inside[at] and peak[at] < full_well_e and electrons[near].sum() < 0.003 * electrons[at].sum():
            chosen.append(int(at))
    figures: list[Figure] = []
    if len(chosen) < 10:
        return figures
    bands = [str(band) for band in truth["band"].values]
    for number, band in enumerate(bands):
        image = stack["image"].isel(band=number, drop=True) if "band" in stack.dims else stack["image"]
        coverage = stack["coverage"].isel(band=number, drop=True) if "band" in stack.dims else stack["coverage"]
        frame = image.expand_dims("time").to_dataset(name="image").assign_coords(frame=("time", [0]))
        sums = aperture_photometry(frame, place[chosen], radius_px, (radius_px + 3, radius_px + 13)).load()
        ratio = sums["flux"].values[0, :, 0] / electrons[chosen, number]
        deep = coverage.sel(
            y=xr.DataArray(np.round(place[chosen, 0]), dims="s"),
            x=xr.DataArray(np.round(place[chosen, 1]), dims="s"),
            method="nearest",
        ).values
        error = sums["flux_err"].values[0, :, 0] / electrons[chosen, number]
        good = np.isfinite(ratio) & (deep > 0.5 * deep.max()) & (error < 0.02)
        if good.sum() < 8:
            continue
        spread = 1.4826 * np.median(np.abs(ratio[good] / np.median(ratio[good]) - 1))
        figures.append(
            Figure(f"stars, {band}: spread of flux / truth ({good.sum()} stars)", float(100 * spread), 2.0, "%")
        )
    return figures


def _noise(stack: xr.Dataset, truth: xr.Dataset, to_stack: Array) -> list[Figure]:
    """Spread of differences of pixels 6 px apart (their noise is independent) over the noise plane, star cores cut."""
    figures = []
    place = apply(to_stack, np.stack([truth["star_y"].values, truth["star_x"].values], axis=1))
    free = np.ones((stack.sizes["y"], stack.sizes["x"]), bool)
    rows, columns = stack["y"].values, stack["x"].values
    for y, x in place:
        low_y, low_x = int(y - rows[0]) - 12, int(x - columns[0]) - 12
        free[max(0, low_y) : max(0, low_y + 25), max(0, low_x) : max(0, low_x + 25)] = False
    for number, band in enumerate(map(str, truth["band"].values)):
        image, noise, coverage = (
            (stack[name].isel(band=number) if "band" in stack.dims else stack[name]).values
            for name in ("image", "noise", "coverage")
        )
        deep = free & (coverage > 0.8 * coverage.max()) & np.isfinite(image)
        both = deep[:, 6:] & deep[:, :-6]
        z = (image[:, 6:] - image[:, :-6])[both] / np.hypot(noise[:, 6:], noise[:, :-6])[both]
        if len(z) > 1000:
            spread = 1.4826 * float(np.median(np.abs(z - np.median(z))))
            figures.append(Figure(f"noise, {band}: spread / noise plane - 1", spread - 1.0, 0.12, ""))
    return figures


def summary(validation: Validation) -> Mapping[str, Any]:
    """The figures as plain numbers, for a JSON file."""
    return {
        figure.name: {"value": figure.value, "limit": figure.limit, "unit": figure.unit}
        for figure in validation.figures
    }
