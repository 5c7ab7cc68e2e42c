"""Kinds of faults in measuring: what belongs to a frame is looked up by its number, errors count every term.

Frames here are numbered 40, 10, 30, 20 and differ in gain, noise and transparency; bands differ in noise.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from getframes_xr.core.vocabulary import Flag
from getframes_xr.face.lazy import lazy
from getframes_xr.measure.light_curve import light_curve, point_to_point
from getframes_xr.measure.phase import phase_shifts
from getframes_xr.measure.photometry import aperture_photometry
from getframes_xr.measure.registration import register
from getframes_xr.measure.score import score
from getframes_xr.measure.stars import find_stars
from tests.frames import held_frames
from tests.measure.star_fields import noisy, scatter_stars, stars_image
from tests.measure.star_tables import move_of, sky_of, star_table

NUMBERS = np.array([40, 10, 30, 20])
SHAPE = (160, 200)


# --- apertures -----------------------------------------------------------------------------------------------------


def test_the_light_s_own_noise_follows_the_gain_of_each_frame() -> None:
    """One image read at gains 0.5, 1, 2, 4: errors differ by flux / gain alone, whatever the order of the frames."""
    gain = np.array([0.5, 1.0, 2.0, 4.0])
    rng = np.random.default_rng(1)
    image = (stars_image(SHAPE, [80.0], [100.0], [40000.0], 3.0) + rng.normal(300, 5, SHAPE)).astype(np.float32)
    frames = lazy(held_frames(np.stack([image] * 4), units="adu", frame=NUMBERS, gain_e_per_adu=gain))
    table = aperture_photometry(frames, [[80, 100]], 5.0).load()
    flux, error = table["flux"].values[:, 0, 0], table["flux_err"].values[:, 0, 0]
    assert np.ptp(flux) == 0
    light = error**2 - flux / gain  # what is left is the background's, the same in every frame
    np.testing.assert_allclose(light, light[0], rtol=1e-9)
    assert (light > 0).all()
    area, ring = np.pi * 25, np.pi * (18**2 - 8**2)
    assert light[0] == pytest.approx(25 * (area + area**2 / ring), rel=0.15)  # s^2 of 800 samples: 5 %; shares: 5 %


def test_a_small_ring_makes_a_large_error() -> None:
    """var = A s^2 + A^2 s^2 / n: with a ring as small as the circle the second term is as large as the first."""
    rng = np.random.default_rng(2)
    image = rng.normal(0, 4, SHAPE).astype(np.float32)
    frames = lazy(held_frames([image], units="adu"))
    narrow, wide = (
        aperture_photometry(frames, [[80, 100]], 6.0, ring).load()["flux_err"].values[0, 0, 0] ** 2
        for ring in ((8.0, 10.0), (8.0, 40.0))
    )
    area = np.pi * 36
    for found, n in ((narrow, np.pi * (10**2 - 8**2)), (wide, np.pi * (40**2 - 8**2))):
        assert found == pytest.approx(16 * (area + area**2 / n), rel=0.25)  # s^2 of 113 samples: 13 %
    assert narrow > 1.5 * wide


def test_a_bloomed_comparison_star_is_told_in_the_curve() -> None:
    rng = np.random.default_rng(3)
    places = scatter_stars(rng, 14, SHAPE, margin=30, apart=16)
    light = np.geomspace(60000, 9000, 14)
    images = np.stack([noisy(rng, stars_image(SHAPE, *(places + k).T, light, 3.0) + 60) for k in range(4)])
    flags = np.zeros(images.shape, np.uint16)
    at = np.round(places[2] + 2).astype(int)
    flags[2, at[0], at[1]] = int(Flag.BLOOMED)
    start = np.datetime64("2026-03-01", "ns") + np.arange(4) * np.timedelta64(60, "s")
    clean = lazy(held_frames(images, flags, units="electron", start=start, exposure_s=np.full(4, 9.0)))
    curve = light_curve(clean, register(find_stars(clean).load()), places[1], [places[2], places[3]], radius_px=4.0)
    assert curve["saturated"].load().values.tolist() == [False, False, True, False]


def test_the_default_ring_lies_outside_the_largest_circle() -> None:
    """Three pixels beyond it, ten wide: light that lies 2 px outside the circle is not sky, light 8 px outside is."""
    table = {}
    for name, at in (("near", 12.0), ("far", 18.0), ("none", None)):
        distance = np.hypot(*(np.indices(SHAPE) - np.array([80, 100])[:, None, None]))
        image = 50.0 + (400.0 * (np.abs(distance - at) < 1.0) if at is not None else 0.0) * np.ones(SHAPE)
        table[name] = aperture_photometry(
            lazy(held_frames([image.astype(np.float32)])), [[80, 100]], [3.0, 10.0]
        ).load()
    assert table["none"].attrs["annulus_px"] == [13.0, 23.0]
    np.testing.assert_allclose(table["near"]["sky"], 50.0, rtol=1e-6)
    assert np.allclose(table["near"]["flux"].values[0, 0], 0.0, atol=1e-2)


# --- light curves --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drifting() -> tuple[xr.Dataset, xr.Dataset, np.ndarray, np.ndarray]:
    """Clean frames numbered 5, 8, 11, ...; moves; places in the first frame; drift per frame along y and x unalike."""
    rng = np.random.default_rng(4)
    places = scatter_stars(rng, 16, SHAPE, margin=40, apart=16)
    light, step = np.geomspace(70000, 6000, 16), np.array([2.5, -4.0])
    images = np.stack([noisy(rng, stars_image(SHAPE, *(places + k * step).T, light, 3.0) + 70) for k in range(8)])
    start = np.datetime64("2026-03-01", "ns") + np.arange(8) * np.timedelta64(60, "s")
    numbers = 5 + 3 * np.arange(8)
    clean = lazy(held_frames(images, units="electron", frame=numbers, start=start, exposure_s=np.full(8, 9.0)))
    return clean, register(find_stars(clean).load()), places, step


def test_a_place_refers_to_the_frame_of_that_number(drifting) -> None:
    clean, moves, places, step = drifting
    there = places + 2 * step  # as frame 11, the third, shows them
    curve = light_curve(clean, moves, there[1], [there[0]], radius_px=4.0, at=11).load()
    expected = places[1] + np.arange(8)[:, None] * step
    np.testing.assert_allclose(curve["y"].values[:, 0], expected[:, 0], atol=0.15)
    np.testing.assert_allclose(curve["x"].values[:, 0], expected[:, 1], atol=0.15)


def test_frames_find_their_moves_by_number_also_when_some_are_missing(drifting) -> None:
    clean, moves, places, step = drifting
    whole = light_curve(clean, moves, places[1], [places[0]], radius_px=4.0, at=5).load()
    part = light_curve(clean.isel(time=[6, 1, 3]), moves, places[1], [places[0]], radius_px=4.0, at=5).load()
    for name in ("target_flux", "comparison_flux", "y", "x"):
        np.testing.assert_allclose(part[name].values, whole[name].values[[6, 1, 3]], rtol=1e-12, err_msg=name)
    fewer = light_curve(
        clean, moves.isel(time=slice(2, 8)), places[1] + 2 * step, [places[0] + 2 * step], radius_px=4.0
    )
    assert np.isnan(fewer["target_flux"].load().values[:2]).all()
    np.testing.assert_allclose(fewer["y"].values[2:, 0], whole["y"].values[2:, 0], atol=0.05)


def test_the_error_of_a_curve_is_that_of_the_ratio(drifting) -> None:
    """(e_f / f)^2 = (e_t / F_t)^2 + sum e_c^2 / (sum F_c)^2; faint comparisons make most of it."""
    clean, moves, places, _ = drifting
    stars = [places[0], places[14], places[15]]  # the brightest against the two faintest
    curve = light_curve(clean, moves, stars[0], stars[1:], radius_px=4.0).load()
    where = np.stack([curve["y"].values, curve["x"].values], -1)
    table = aperture_photometry(clean, where, 4.0, tuple(curve.attrs["annulus_px"]), fwhm_px=curve.attrs["fwhm_px"])
    flux, error = table["flux"].load().values[:, :, 0], table["flux_err"].values[:, :, 0]
    many = flux[:, 1:].sum(1)
    ratio = flux[:, 0] / many
    expected = (
        ratio / np.median(ratio) * np.sqrt((error[:, 0] / flux[:, 0]) ** 2 + (error[:, 1:] ** 2).sum(1) / many**2)
    )
    np.testing.assert_allclose(curve["flux"], ratio / np.median(ratio), rtol=1e-9)
    np.testing.assert_allclose(curve["flux_err"], expected, rtol=1e-9)
    assert ((error[:, 1:] ** 2).sum(1) / many**2 > 2 * (error[:, 0] / flux[:, 0]) ** 2).all()


def test_point_to_point_is_a_difference_over_root_two() -> None:
    assert point_to_point(np.array([1.0, 1.2, 1.0, 1.2, 1.0])) == pytest.approx(0.2 / np.sqrt(2) / 1.08, rel=1e-12)


# --- shifts --------------------------------------------------------------------------------------------------------


def test_the_reference_of_shifts_is_a_number_and_signs_bring_a_frame_onto_it() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(5)
    sky = gaussian_filter(rng.normal(0, 1, (420, 520)), 3.0) * 300
    corner = {40: (60, 60), 10: (66, 52), 30: (78, 60), 20: (60, 76)}  # where each frame's first pixel lies on the sky
    images = np.stack([sky[y : y + 240, x : x + 300] for y, x in corner.values()]) + rng.normal(100, 2, (4, 240, 300))
    flags = np.zeros(images.shape, np.uint16)
    images[:, ::40, 7] += 1e6
    flags[:, ::40, 7] = int(Flag.HOT)
    frames = lazy(held_frames(images.astype(np.float32), flags, frame=NUMBERS))
    found = phase_shifts(frames, reference=30).load()
    assert found.attrs["reference_frame"] == 30
    for at, number in enumerate(NUMBERS):
        y, x = corner[int(number)]
        np.testing.assert_allclose(
            found["dy"].values[at], y - 78, atol=0.3
        )  # a place of the frame + d: of the reference
        np.testing.assert_allclose(found["dx"].values[at], x - 60, atol=0.3)


def test_flagged_pixels_have_no_say_in_a_shift() -> None:
    """What stands in flagged pixels may be anything: every number of the table stays the same."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(15)
    sky = gaussian_filter(rng.normal(0, 1, (300, 380)), 3.0) * 300
    images = np.stack([sky[:240, :300], sky[9:249, 14:314]]) + rng.normal(100, 1, (2, 240, 300))
    flags = np.where(rng.random(images.shape) < 0.1, int(Flag.BAD_COLUMN), 0)
    tables = []
    for garbage in (-5000.0, 40000.0):
        values = np.where(flags > 0, garbage, images).astype(np.float32)
        tables.append(phase_shifts(lazy(held_frames(values, flags, frame=[8, 5]))).load())
    for name in ("dy", "dx", "peak_sigma", "verified"):
        assert tables[0][name].values.tobytes() == tables[1][name].values.tobytes(), name
    np.testing.assert_allclose([tables[0]["dy"].values[1], tables[0]["dx"].values[1]], [9, 14], atol=0.5)


def test_given_shifts_become_transforms_onto_the_frame_asked_for() -> None:
    """The reference is a number that is not its place; shifts measured against another frame are brought onto it."""
    rng = np.random.default_rng(6)
    places = np.array([[60.0, 70.0], [100.0, 130.0], [40.0, 150.0]])
    steps = np.array([[0.0, 0.0], [13.0, -22.0], [30.0, 12.0]])
    images = np.stack([stars_image(SHAPE, *(places - step).T, [9e5] * 3, 9.0) for step in steps])
    frames = lazy(held_frames(noisy(rng, images + 60), units="electron", frame=[10, 15, 20]))
    shifts = phase_shifts(frames, reference=10).load()
    np.testing.assert_allclose(np.stack([shifts["dy"], shifts["dx"]], 1), steps, atol=0.6)
    moves = register(find_stars(frames).load(), reference=20, shifts=shifts)
    assert moves.attrs["reference_frame"] == 20 and moves["verified"].all()
    np.testing.assert_allclose(moves["transform"].values[:, :, 2], steps - steps[2], atol=0.8)
    np.testing.assert_allclose(moves["transform"].values[:, :, :2], np.broadcast_to(np.eye(2), (3, 2, 2)))


def test_the_reference_frame_is_named_by_its_number_and_rotation_has_one_sign() -> None:
    """A transform onto the reference by an angle a: [y, x] = [[cos, sin], [-sin, cos]] [y, x]."""
    rng = np.random.default_rng(7)
    turns = [3.0, 1.0, -2.0, -4.0]
    stars = star_table(rng, [move_of(turn) for turn in turns], sky_of(rng), noise=False)
    stars = stars.assign_coords(frame=("time", 100 + 7 * np.arange(4)))
    moves = register(stars, reference=107)
    assert moves.attrs["reference_frame"] == 107
    at = list(moves["frame"].values).index(107)
    np.testing.assert_allclose(moves["transform"].values[at], [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    np.testing.assert_allclose(moves["rotation_deg"].values, 1.0 - np.array(turns), atol=0.01)
    angle = np.deg2rad(moves["rotation_deg"].values)
    np.testing.assert_allclose(moves["transform"].values[:, 0, 1], np.sin(angle), atol=1e-4)


# --- scores --------------------------------------------------------------------------------------------------------


def colour_table(rng: np.random.Generator, n: int = 5) -> xr.Dataset:
    stars = star_table(rng, [move_of(0.4 * k, (2.0 * k, 1.0)) for k in range(n)], sky_of(rng))
    bands = {
        name: xr.concat([stars[name]] * 3, "band").transpose("time", "band", ...)
        for name in ("variance", "background", "sky")
    }
    return stars.drop_dims("band").assign(bands).assign_coords(band=["red", "green", "blue"])


def test_every_band_counts_in_a_score_and_transparency_as_the_formula_says() -> None:
    """score = (t / FWHM)^2 / mean V, relative to the median of the used frames alone."""
    rng = np.random.default_rng(8)
    stars = colour_table(rng)
    stars["y"].values[4], stars["x"].values[4] = np.nan, np.nan  # nothing to match: left out
    variance = rng.uniform(50, 200, (5, 3))
    stars["variance"].values[:] = variance
    moves = register(stars)
    assert moves["verified"].values.tolist() == [True] * 4 + [False]
    transparency, width = np.array([1.0, 0.8, 0.5, 1.1, 0.05]), np.array([3.0, 2.5, 4.0, 3.3, 2.0])
    moves["fwhm_px"].values[:] = width
    found = score(stars, moves.assign(transparency=("time", transparency)))
    merit = (transparency / width) ** 2 / variance.mean(1)
    np.testing.assert_allclose(found["score"].values[:4], (merit / np.median(merit[:4]))[:4], rtol=1e-12)
    assert found["score"].values[4] == 0.0
    np.testing.assert_allclose(found["noise"], np.sqrt(variance.mean(1)), rtol=1e-12)


# --- stars ---------------------------------------------------------------------------------------------------------


def test_the_saturated_share_counts_bloomed_pixels_too_over_all_pixels() -> None:
    rng = np.random.default_rng(9)
    flags = np.zeros((2, *SHAPE), np.uint16)
    flags[1, 20:25, 30:34] = int(Flag.SATURATED)
    flags[1, 50:53, 60:70] = int(Flag.BLOOMED)
    flags[1, 90, :50] = int(Flag.HOT)
    frames = lazy(held_frames(rng.normal(100, 3, (2, *SHAPE)).astype(np.float32), flags, frame=[9, 4]))
    found = find_stars(frames).load()["saturated_share"].values
    np.testing.assert_allclose(found, [0.0, 50 / (SHAPE[0] * SHAPE[1])], rtol=1e-12)


@pytest.mark.parametrize("cfa", [None, "GRBG"])
def test_stars_of_a_part_of_a_sensor_have_the_places_of_the_whole(cfa: str | None) -> None:
    """The part begins at an odd row and an even column: the colours of its pixels are those of the absolute place."""
    rng = np.random.default_rng(16)
    places = scatter_stars(rng, 12, SHAPE, margin=30, apart=20)
    light = stars_image(SHAPE, *places.T, np.geomspace(20000, 60000, 12), 3.0)
    y, x = np.indices(SHAPE)
    colour = np.where((y + x) % 2 == 0, 400.0, np.where(y % 2 == 0, 90.0, 50.0)) if cfa else np.full(SHAPE, 60.0)
    image = noisy(rng, light + colour)
    for top, left in ((0, 0), (7, 12)):
        part = held_frames([image[top:, left:]], y0=top, x0=left, units="electron", cfa=cfa)
        found = find_stars(lazy(part)).load()
        place = np.stack([found["y"].values[0], found["x"].values[0]], 1)[: int(found["n_stars"][0])]
        for star in places:
            assert np.hypot(*(place - star).T).min() < 0.1


@pytest.mark.parametrize("units", ["electron", "adu"])
def test_errors_of_the_finder_count_light_background_and_ring(units: str) -> None:
    """Pulls of 30 repeats: unit spread in electrons; in adu the light's own noise is not counted, as it says."""
    rng = np.random.default_rng(10)
    places = scatter_stars(rng, 8, SHAPE, margin=30, apart=36)
    light = stars_image(SHAPE, *places.T, np.geomspace(3000, 60000, 8), 3.0)
    images = np.stack([noisy(rng, light + 40, 5.0) for _ in range(30)])
    table = find_stars(lazy(held_frames(images, units=units))).load()
    flux, error = table["flux"].values[:, :8], table["flux_err"].values[:, :8]
    brightest = slice(0, 4)
    pull = ((flux - flux.mean(0)) / error)[:, brightest].std() * np.sqrt(30 / 29)
    own = 1.0 if units == "electron" else np.median(flux.std(0)[brightest] / error.mean(0)[brightest])
    assert abs(pull / own - 1) < 0.25  # 116 degrees of freedom: 6.6 %
    assert (own == 1.0) or own > 1.5
    blank = error[:, 7] ** 2 - (flux[:, 7] if units == "electron" else 0.0)
    assert (
        0.8
        < np.median(blank) / (65 * np.pi * (1.9 * 3.0) ** 2 * (1 + np.pi * 5.7**2 / (np.pi * (14.7**2 - 8.7**2))))
        < 1.3
    )
