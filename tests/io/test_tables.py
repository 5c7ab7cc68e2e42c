"""Tables on disk come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from getframes_xr.core.errors import DataError
from getframes_xr.io.tables import open_table, save_table


def test_a_table_comes_back_byte_for_byte(tmp_path: Path) -> None:
    table = xr.Dataset(
        {
            "flux": (("time", "source"), np.array([[1.5, np.nan], [2.0, 3.0]], np.float32), {"units": "electron"}),
            "verdict": ("time", np.array(["used", "transparency 0.12, weight 0.01"], dtype=object)),
            "saturated": ("time", np.array([True, False])),
        },
        {
            "frame": ("time", np.array([3, 7])),
            "time": np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]"),
            "wcs": ((), np.array("CRVAL1 = 1", dtype=object)),
        },
        {"reference_frame": 3, "block_px": np.int64(32)},
    )
    again = open_table(save_table(table, tmp_path / "stars.npz"))
    xr.testing.assert_identical(again, table)
    assert all(again[name].dtype == table[name].dtype for name in table.variables)


def test_a_lazy_table_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="still lazy"):
        save_table(xr.Dataset({"a": ("time", np.arange(3))}).chunk(), tmp_path / "a.npz")
    (tmp_path / "b.npz").write_text("no table")
    with pytest.raises(DataError, match=r"b\.npz is not a table"):
        open_table(tmp_path / "b.npz")
