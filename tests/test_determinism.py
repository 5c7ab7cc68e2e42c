"""One night, one result: however it is cut, ordered or scheduled, the values are the same bytes.

The night is an alt-az one of a colour camera that blooms, couples pixels and remembers (persistence), so stages of all
scopes are in it. The reduction is the road calibrate -> find_stars -> register -> normalise -> stack, splat. The
cluster has four worker processes; one is killed (SIGKILL) while results that it holds are still needed.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster, as_completed, futures_of

import getframes_xr as gx
from getframes_xr.core.digest import digest
from getframes_xr.core.vocabulary import Flag
from getframes_xr.detector.stages.blooming import Blooming
from getframes_xr.detector.stages.ipc import InterPixelCapacitance
from getframes_xr.detector.stages.persistence import Persistence

SHAPE, N = (192, 256), 12
WELL_E = 11_200.0
RAW = ("adu", "truth_electrons", "flags")
REDUCED = ("image", "noise", "count")
Digests = dict[str, str]


def digests(data: xr.Dataset, names: tuple[str, ...]) -> Digests:
    """Of the loaded values, one per plane."""
    return {name: digest(np.ascontiguousarray(data[name].values)) for name in names}


def observed() -> xr.Dataset:
    remembering = Persistence(
        full_well_e=WELL_E, capture=(0.02,), release_time_s=(40.0,), horizon_frames=3, period_frames=4
    )
    camera = gx.Camera.preset("seestar_s50").replace(shape=SHAPE, serial="one of many")
    for stage in (remembering, Blooming(full_well_e=WELL_E), InterPixelCapacitance(coupling=0.01)):
        camera = camera.without("full_well") if isinstance(stage, Blooming) else camera
        camera = camera.with_stage(stage)
    scene = gx.Scene(
        telescope=gx.Telescope(aperture_diameter_m=0.05, throughput=0.8, plate_scale_arcsec_per_px=2.4, band="green"),
        psf=gx.psf.Moffat(fwhm_arcsec=7.5, beta=3.5),
        sources=[gx.StarField(n=70, magnitude=(5.5, 11.0), seed=3), gx.Sky(mag_per_arcsec2=19.0)],
        pointing=gx.Pointing(jitter_arcsec=3.0, field_rotation=gx.pointing.FieldRotation(rate_deg_per_s=0.01)),
    )
    return gx.observe(scene, camera, gx.Exposures(n=N, exposure_s=10.0, cadence_s=13.0), seed="one night")


def in_chunks(data: xr.Dataset, *chunks: int) -> xr.Dataset:
    """The same data cut into other tasks."""
    return gx.lazy(gx.as_producer(data), [str(name) for name in data.data_vars], chunks)


@pytest.fixture(scope="module")
def night() -> xr.Dataset:
    """The night as it comes: loaded once, in one task."""
    with dask.config.set(scheduler="synchronous"):
        return observed().load()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    options = {"n_workers": 4, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with LocalCluster(processes=True, **options) as workers, Client(workers, set_as_default=False) as client:
        yield client


def with_a_worker_killed(client: Client, *asked: xr.Dataset) -> list[xr.Dataset]:
    """Compute on the cluster; when a third of the blocks is done, a worker that holds one of them dies."""
    client.wait_for_workers(4, timeout=60)
    before = client.run(os.getpid)
    assert len(before) == 4
    kept = client.persist(list(asked), optimize_graph=True)
    futures = futures_of(kept)
    assert len(futures) >= 24
    for number, _ in enumerate(as_completed(futures, loop=client.loop), 1):
        if number >= len(futures) // 3:
            break
    holder = next(address for holders in client.who_has(futures).values() for address in holders)
    os.kill(before[holder], signal.SIGKILL)
    found = client.gather(client.compute(kept, optimize_graph=False))
    assert before[holder] not in client.run(os.getpid).values(), "nobody was killed"
    return list(found)


# --- observing -----------------------------------------------------------------------------------------------------


def test_the_night_has_what_could_go_wrong_in_it(night: xr.Dataset) -> None:
    flags = night["flags"].values
    for flag in (Flag.SATURATED, Flag.BLOOMED, Flag.PERSISTENCE, Flag.HOT):
        assert (flags & int(flag)).any(), flag.name
    assert str(night["cfa_pattern"].item()) == "GRBG"


@pytest.mark.parametrize(
    ("scheduler", "chunks"), [("threads", (5, 64, 131)), ("synchronous", (1, 192, 100)), ("threads", (12, 192, 256))]
)
def test_frames_do_not_depend_on_chunks_and_scheduler(
    night: xr.Dataset, scheduler: str, chunks: tuple[int, int, int]
) -> None:
    with dask.config.set(scheduler=scheduler, num_workers=4):
        assert digests(in_chunks(observed()[list(RAW)], *chunks), RAW) == digests(night, RAW)


PARTS = {
    "cropped": {"y": slice(31, 144), "x": slice(77, 230)},
    "one exposure": {"time": [7]},
    "sliced with a step": {"time": slice(1, None, 3), "y": slice(None, None, 5), "x": slice(3, None, 2)},
    "in another order": {"time": [9, 2, 11, 3], "x": slice(20, 90)},
    "reversed in time": {"time": slice(None, None, -1)},
    "reversed in all": {"time": slice(None, None, -1), "y": slice(None, None, -1), "x": slice(None, None, -1)},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("way", ["compute", "gx.compute", "rechunked"])
def test_a_part_of_the_frames_is_that_part_of_all(night: xr.Dataset, part: str, way: str) -> None:
    shown = observed()[list(RAW)].isel(PARTS[part])
    if way == "rechunked":
        shown = shown.chunk({"time": 2, "y": 37, "x": -1})
    found = shown.gx.compute() if way == "gx.compute" else shown.compute(scheduler="threads")
    assert digests(found, RAW) == digests(night.isel(PARTS[part]), RAW)


@pytest.mark.alone
def test_four_processes_make_the_same_frames_though_one_is_killed(night: xr.Dataset, cluster: Client) -> None:
    (found,) = with_a_worker_killed(cluster, in_chunks(observed()[list(RAW)], 4, 64, 128))
    assert digests(found, RAW) == digests(night, RAW)


# --- reducing ------------------------------------------------------------------------------------------------------


def calibrated(frames: xr.Dataset) -> xr.Dataset:
    return gx.calibrate(frames[["adu"]], cosmetic=gx.cosmetic(frames[["adu"]]))


def tables(clean: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    stars = gx.find_stars(clean).load()
    return stars, gx.normalise(stars, gx.register(stars))


def stacked(frames: xr.Dataset, moves: xr.Dataset) -> xr.Dataset:
    """Green as bands go: debayered, warped with the field's rotation, clipped."""
    colours = gx.debayer(calibrated(frames), "bilinear")
    return gx.stack(gx.warp(colours, moves), reject=gx.reject.SigmaClip(kappa=2.5))


def splatted(frames: xr.Dataset, moves: xr.Dataset) -> xr.Dataset:
    return gx.splat(calibrated(frames), moves)


ROADS = {"stack": stacked, "splat": splatted}


@pytest.fixture(scope="module")
def moves(night: xr.Dataset) -> xr.Dataset:
    with dask.config.set(scheduler="synchronous"):
        return tables(calibrated(observed()))[1]


@pytest.fixture(scope="module")
def result(night: xr.Dataset, moves: xr.Dataset) -> dict[str, xr.Dataset]:
    with dask.config.set(scheduler="synchronous"):
        return {name: road(observed(), moves).load() for name, road in ROADS.items()}


def test_the_reduction_rejects_and_weighs(result: dict[str, xr.Dataset], moves: xr.Dataset) -> None:
    assert bool(moves["used"].all()) and np.ptp(moves["rotation_deg"].values) > 1.0
    for data in result.values():
        assert data["count"].values.max() > 0 and (data["count"].values < data["coverage"].values).any()
        assert np.isfinite(data["image"].values).mean() > 0.8


def test_tables_do_not_depend_on_chunks_order_and_scheduler(moves: xr.Dataset) -> None:
    """Star by star and frame by frame, also when frames come in reverse order in other chunks from arithmetic."""
    clean = calibrated(observed())
    backwards = clean.isel(time=slice(None, None, -1))
    with dask.config.set(scheduler="threads", num_workers=4):
        ways = [
            tables(in_chunks(clean, 3, 50, 256)),
            tables(backwards),
            tables((clean.chunk({"time": 5}) * 1).assign_attrs(clean.attrs)),
        ]
    for _, found in ways:
        ordered = found.sortby("frame")
        for name in ("transform", "transparency", "sky", "variance", "weight"):
            assert digest(ordered[name].values) == digest(moves[name].values), name


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("way", ["threads", "cropped", "re-chunked", "reversed", "loaded", "foreign"])
def test_a_reduction_does_not_depend_on_how_it_is_asked_for(
    night: xr.Dataset, moves: xr.Dataset, result: dict[str, xr.Dataset], road: str, way: str
) -> None:
    expected, frames = result[road], observed()
    box = {"y": slice(40, 121), "x": slice(90, 200)}
    with dask.config.set(scheduler="synchronous" if way == "cropped" else "threads", num_workers=4):
        if way == "cropped":
            found, expected = ROADS[road](frames, moves).isel(box), expected.isel(box)
        elif way == "re-chunked":
            found = in_chunks(ROADS[road](in_chunks(frames[["adu"]], 1, 192, 100), moves), 1, 70, 90)
        elif way == "reversed":
            found = ROADS[road](frames.isel(time=slice(None, None, -1)), moves.isel(time=slice(None, None, -1)))
        elif way == "loaded":
            found = ROADS[road](night, moves)
        elif way == "foreign":
            found = ROADS[road](frames.chunk({"time": 4, "y": 100}).persist(), moves)
        else:
            found = ROADS[road](frames, moves)
        assert digests(found.load(), REDUCED) == digests(expected, REDUCED)


@pytest.mark.alone
def test_four_processes_reduce_alike_though_one_is_killed(
    moves: xr.Dataset, result: dict[str, xr.Dataset], cluster: Client
) -> None:
    asked = [in_chunks(road(observed(), moves)[list(REDUCED)], 1, 100, 130) for road in ROADS.values()]
    found = with_a_worker_killed(cluster, *asked)
    assert [digests(data, REDUCED) for data in found] == [digests(result[name], REDUCED) for name in ROADS]


@pytest.mark.alone
def test_tables_made_by_four_processes_are_the_same(moves: xr.Dataset, cluster: Client) -> None:
    stars = gx.find_stars(in_chunks(calibrated(observed()), 1, 192, 256))
    loaded = cluster.gather(cluster.compute(stars))
    found = gx.normalise(loaded, gx.register(loaded))
    for name in ("transform", "transparency", "sky", "variance", "weight"):
        assert digest(found[name].values) == digest(moves[name].values), name
