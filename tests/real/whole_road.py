"""What the tests of whole reductions share: geometry of the manifest's transforms, and noise of an image."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def table(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def between(one: Mapping[str, Any], other: Mapping[str, Any]) -> np.ndarray:
    """Transform (2, 3), (y, x), from frame ``one`` to frame ``other`` (records of a manifest)."""
    full = [np.vstack([np.asarray(record["transform"]), [0, 0, 1]]) for record in (one, other)]
    return (np.linalg.inv(full[1]) @ full[0])[:2]


def apply(transform: np.ndarray, place: Any) -> np.ndarray:
    return np.asarray(place) @ transform[:, :2].T + transform[:, 2]


def rotation_deg(transform: np.ndarray) -> float:
    """In the (x, y) sense of the data's README."""
    return float(np.rad2deg(np.arctan2(transform[0, 1] - transform[1, 0], transform[0, 0] + transform[1, 1])))


def scale(transform: np.ndarray) -> float:
    return float(np.sqrt(np.linalg.det(transform[:, :2])))


def shift_superpixel(transform: np.ndarray) -> np.ndarray:
    """(y, x) of the superpixel (0, 0), in superpixels; its centre is the pixel (0.5, 0.5)."""
    return (apply(transform, [0.5, 0.5]) - 0.5) / 2


def boxes(image: np.ndarray, size: int) -> np.ndarray:
    """Means of ``size`` x ``size`` pixels; NaN where a pixel is."""
    rows, columns = (n // size for n in image.shape)
    cut = image[: rows * size, : columns * size]
    return cut.reshape(rows, size, columns, size).mean((1, 3))


def noise_of_boxes(image: np.ndarray, size: int) -> float:
    """Standard deviation of box means from neighbours' differences (68 % half width): stars and slopes do not count."""
    means = boxes(image, size)
    difference = means[:, 1:] - means[:, :-1]
    low, high = np.percentile(difference[np.isfinite(difference)], [15.865, 84.135])
    return float((high - low) / 2 / np.sqrt(2))
