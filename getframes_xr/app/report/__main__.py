"""The child process that makes one report: ``python -m getframes_xr.app.report RUN_FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from getframes_xr.app.report.page import make_page

if __name__ == "__main__":
    make_page(Path(sys.argv[1]))
