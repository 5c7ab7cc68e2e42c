"""A process that reduces a session and tells every event, to be killed.

``python -m tests.workflows.reducing FROM TO VERSION``: the version of the code is given, so that a source file saved
while the test runs does not make another recipe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import getframes_xr.core.digest as digesting

digesting.code_version = lambda: sys.argv[3]  # type: ignore[assignment]  # before other modules take its name

import dask  # noqa: E402

import getframes_xr as gx  # noqa: E402


def tell(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    with dask.config.set(scheduler="threads", num_workers=2):
        gx.reduce_session(sys.argv[1], out=sys.argv[2], on_event=tell)
