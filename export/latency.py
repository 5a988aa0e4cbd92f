"""How long files take, for a report."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from bireal_keras.export import probes
from bireal_keras.runtime.latency import take_turns

_RUNS = 12


def of_files(files: dict[str, bytes], inputs: Sequence[np.ndarray]) -> dict[str, float]:
    """Shortest of a few runs of each file on our runtime, which take turns, in milliseconds."""
    runs = [partial(probes.run_on_runtime(file), list(inputs)) for file in files.values()]
    times = take_turns(runs, num_runs=_RUNS, warmup_runs=2)
    return {name: min(milliseconds) for name, milliseconds in zip(files, times)}
