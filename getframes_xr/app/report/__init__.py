"""The report of a run: one HTML file that a person opens, prints and sends on.

``write_report`` reads ``manifest.json`` of a run folder and its products and writes ``report.html`` beside them:
pictures and charts lie inside it, nothing is loaded from elsewhere. It is made in this process, after the run's buffers
are given back: matplotlib adds 26 MiB, a child process took 134 to 190. Whatever the manifest lacks is left out of the
page.
"""

from __future__ import annotations

from pathlib import Path

from getframes_xr.core import allocator
from getframes_xr.core.errors import DataError, GetframesError, StoreError

FIGURES = "figures.json"
"""in a run folder: figures against a known truth, ``{name: {"value", "limit", "unit"}}``; shown where it is there"""


def write_report(run_folder: str | Path) -> Path:
    """Write ``report.html`` of a run folder.

    Parameters
    ----------
    run_folder : folder that holds ``manifest.json``

    Returns
    -------
    Path : of the report

    Raises
    ------
    DataError : the folder holds no manifest
    StoreError : the report cannot be made or written
    """
    folder = Path(run_folder)
    if not (folder / "manifest.json").is_file():
        raise DataError(f"{folder} is no run folder: it holds no manifest.json; run getframes-xr reduce first")
    from getframes_xr.app.report.page import make_page

    allocator.trim()
    try:
        return make_page(folder)
    except GetframesError as error:
        raise StoreError(f"no report for {folder}: {error}") from error
