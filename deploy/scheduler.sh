#!/bin/sh
# A dask scheduler for getframes-xr: scheduler.sh [options of "dask scheduler"]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
DASK_CONFIG="${DASK_CONFIG:-$here/dask.yaml}"
export DASK_CONFIG
exec "${PYTHON:-python3}" -m dask scheduler "$@"
