"""Memory: a sigma-clipped stack of 300 frames of 2048 x 2048 u16 (2.5 GB of FITS) under a budget of 1 GiB.

Run: ``python -m benchmarks.large_stack [FOLDER]``; the frames are written to FOLDER (a temporary one by default) and
kept there if it was named. Prints peak RSS of the whole process and the bytes read, counted by the reader.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FRAMES, SHAPE = 300, (2048, 2048)


def write_frames(folder: Path) -> list[str]:
    """Noise around 1000 ADU, written frame by frame in a child process so that its memory does not count here."""
    import subprocess

    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from getframes_xr.io.fits_writer import write_frame\n"
        "from astropy.io import fits\n"
        "random = np.random.default_rng(1)\n"
        f"base = random.normal(1000, 12, {SHAPE}).round().astype(np.uint16)\n"
        f"for at in range({FRAMES}):\n"
        "    path = Path(sys.argv[1]) / f'frame_{at:03d}.fits'\n"
        "    if not path.exists():\n"
        "        header = fits.Header({'EXPTIME': 10.0, 'IMAGETYP': 'Light Frame'})\n"
        "        header['DATE-OBS'] = f'2026-01-01T{at // 60:02d}:{at % 60:02d}:00'\n"
        "        write_frame(path, np.roll(base, 37 * at, axis=1), header)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    return sorted(map(str, folder.glob("frame_*.fits")))


def main(folder: Path) -> None:
    """Write, stack, print."""
    paths = write_frames(folder)
    import getframes_xr as gx
    from getframes_xr.io.fits import bytes_read

    size = sum(Path(path).stat().st_size for path in paths)
    started, cpu, read = time.perf_counter(), time.process_time(), bytes_read()
    with gx.memory("1GiB"):
        stacked = gx.stack(gx.open_frames(paths), reject=gx.reject.SigmaClip(kappa=3.0))
        plan = gx.plan(stacked)
        print(plan)
        result = plan.compute()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{FRAMES} frames, {size / 1e9:.2f} GB: {time.perf_counter() - started:.1f} s wall, "
        f"{time.process_time() - cpu:.1f} s CPU, peak RSS {peak / 2**20:.0f} MiB (budget 1024), "
        f"bytes read {(bytes_read() - read) / size:.3f} x the input"
    )
    assert peak < 2**30 and bytes_read() - read <= 1.1 * size
    assert abs(float(np.nanmean(result.image)) - 1000) < 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
