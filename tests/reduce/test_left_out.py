"""One policy of flags: whatever makes an image leaves out the same pixels and keeps the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from getframes_xr.core.vocabulary import COLOUR_BANDS, Flag
from getframes_xr.face.lazy import lazy
from getframes_xr.reduce.binned import binned
from getframes_xr.reduce.debayer import debayer
from getframes_xr.reduce.master import master
from getframes_xr.reduce.reject import Mean, Median
from getframes_xr.reduce.splat.first_image import first_image
from getframes_xr.reduce.splat.splat import splat
from getframes_xr.reduce.stack import stack
from getframes_xr.reduce.warp import warp
from tests.frames import held_frames
from tests.reduce.night import night

# a saturated core is light, a response that is odd is still light; foreign or missing charge is not
KEPT = {Flag.SATURATED, Flag.EDGE, Flag.INTERPOLATED, Flag.NONLINEAR, Flag.PERSISTENCE, Flag.LOW_RESPONSE}
N, SHAPE, AT, MARK = 4, (24, 30), (10, 13), 5e4


def marked(flag, cfa=None, dtype=np.float32, plane="image"):
    values = np.full((N, *SHAPE), 100, dtype)
    flags = np.zeros(values.shape, np.uint16)
    values[:, AT[0], AT[1]], flags[:, AT[0], AT[1]] = MARK, int(flag)
    return lazy(held_frames(values, flags, units="electron", plane=plane, cfa=cfa))


def unmoved(cfa=None):
    moves = night(N, SHAPE, cfa, turn_deg=0.0, stars=0, noise=False).moves
    moves["transform"].values[...] = np.eye(2, 3)
    moves["transparency"].values[...], moves["sky"].values[...] = 1.0, 0.0
    return moves.assign(verified=moves["used"])


MAKE = {
    "stack": lambda flag: stack(marked(flag), reject=Mean()),
    "stack of integers": lambda flag: stack(marked(flag, None, np.uint16, "adu"), reject=Median()),
    "median": lambda flag: stack(marked(flag), reject=Median()),
    "master": lambda flag: master(marked(flag), reject=Median()),
    "warp": lambda flag: warp(marked(flag), unmoved()),
    "binned": lambda flag: binned(marked(flag), 3),
    "debayer superpixel": lambda flag: debayer(marked(flag, "RGGB"), "superpixel"),
    "debayer bilinear": lambda flag: debayer(marked(flag, "RGGB"), "bilinear"),
    "splat": lambda flag: splat(marked(flag), unmoved(), reject=False),
    "splat of colours": lambda flag: splat(marked(flag, "GBRG"), unmoved("GBRG"), reject=False),
    "first image": lambda flag: first_image(marked(flag), unmoved()),
    "first image of colours": lambda flag: first_image(marked(flag, "GBRG"), unmoved("GBRG")),
}


@pytest.mark.parametrize("flag", list(Flag), ids=lambda flag: flag.name.lower())
@pytest.mark.parametrize("make", MAKE)
def test_every_image_leaves_out_the_same_pixels(make, flag):
    """The flagged pixel is 500 times the others: an image that uses it shows a ninth of it (a bin of 3 x 3) or more."""
    image = MAKE[make](flag)["image"].values
    assert (np.nanmax(image) > MARK / 10) == (flag in KEPT)
    assert set(image.shape[:-2]) <= {N, len(COLOUR_BANDS)}
