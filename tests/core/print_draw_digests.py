"""Print the digest of every law's bytes; run by `test_draws_bytes` in processes that see different CPUs."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from getframes_xr.core.draws import Draws, events_of_frame, key_of, stream_word
from getframes_xr.core.elementary import erf64, exp64, log32, log64, sine_cosine_of_turns
from getframes_xr.core.kernel import kernel


@kernel
def fill_elementary(values, out, short):
    for i in range(values.size):
        out[i, 0] = exp64(values[i] * 30.0 - 15.0)
        out[i, 1] = log64(values[i] + 1e-9)
        out[i, 2] = erf64(values[i] * 8.0 - 4.0)
        out[i, 3], out[i, 4] = sine_cosine_of_turns(values[i] * 6.0 - 3.0)
        short[i] = log32(np.float32(values[i] + 1e-6))


def digests() -> dict[str, str]:
    draws = Draws(key_of(7, "camera 1", "light"), [0, 3, 4_000_000_000], range(5, 37), range(41, 642), stream_word(9))
    steps = (np.arange(np.prod(draws.shape)) % 1009).reshape(draws.shape) / 1009.0  # exact division, no libm
    mean = steps**2 * 30.0
    values = steps.reshape(-1).copy()
    elementary, short = np.empty((values.size, 5)), np.empty(values.size, np.float32)
    fill_elementary(values, elementary, short)
    results = {
        "words": draws.words(),
        "uniform": draws.uniform(),
        "normal": draws.normal(),
        "exponential": draws.exponential(),
        "poisson": draws.poisson(mean),
        "poisson float32": draws.poisson((mean * 1e4).astype(np.float32)),
        "gamma": draws.gamma(mean / 5.0, 2.5),
        "binomial": draws.binomial(np.floor(mean * 20.0), 0.3),
        "per frame": draws.per_frame(17),
        "per column": draws.per_column(),
        "per row": draws.per_row(),
        "events": events_of_frame((1, 2), 3, stream_word(9), 500.0, 5),
        "elementary": elementary,
        "log32": short,
    }
    return {name: hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest() for name, array in results.items()}


if __name__ == "__main__":
    print(json.dumps(digests()))
