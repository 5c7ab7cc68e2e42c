#!/bin/sh
# dask workers for getframes-xr, one thread each: worker.sh tcp://SCHEDULER:8786 [options of "dask worker"]
set -eu
if [ "$#" -lt 1 ]; then
    echo "usage: $0 tcp://SCHEDULER:8786 [--nworkers 8] [--memory-limit 2GiB] ..." >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
DASK_CONFIG="${DASK_CONFIG:-$here/dask.yaml}"
export DASK_CONFIG
exec "${PYTHON:-python3}" -m dask worker --nthreads 1 --memory-limit 2GiB "$@"
