"""The most that xor and a population count reach on this CPU."""

import subprocess
import tempfile
from pathlib import Path

from report import print_table


def popcount_peaks() -> float:
    """Prints what popcount_peak.cc measures. Returns the highest, in 1e9 MACs a second."""
    (rates,) = _measured(1)
    print_table(
        ["xor + population count, first-level cache, 1 thread", "1e9 MAC/s"],
        [[name, f"{rate:.0f}"] for name, rate in rates.items()],
    )
    return max(rates.values())


def popcount_scaling() -> float:
    """How many times as much as one of it two processes of popcount_peak.cc do at once."""
    (alone,), together = _measured(1), _measured(2)
    name = max(alone, key=alone.__getitem__)
    return sum(rates[name] for rates in together) / alone[name]


def _measured(processes: int) -> list[dict[str, float]]:
    """1e9 MACs a second, by name, in each of several processes at once."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "popcount_peak"
        source = Path(__file__).with_name("popcount_peak.cc")
        subprocess.run(["c++", "-std=c++17", "-O3", "-o", program, source], check=True)
        started = [
            subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        outputs = [process.communicate()[0] for process in started]
    if any(process.returncode != 0 for process in started):
        raise RuntimeError("popcount_peak failed.")
    rows = [[line.split("\t") for line in output.splitlines()] for output in outputs]
    return [{name: float(rate) for rate, name in lines} for lines in rows]
