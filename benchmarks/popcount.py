"""The most that xor and a population count reach on this CPU."""

import subprocess
import tempfile
from pathlib import Path

from report import print_table


def popcount_peaks() -> float:
    """Prints what popcount_peak.cc measures. Returns the highest, in 1e9 MACs a second."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "popcount_peak"
        source = Path(__file__).with_name("popcount_peak.cc")
        subprocess.run(["c++", "-std=c++17", "-O3", "-o", program, source], check=True)
        result = subprocess.run([program], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    print_table(
        ["xor + population count, first-level cache, 1 thread", "1e9 MAC/s"],
        [[name, f"{float(rate):.0f}"] for rate, name in rows],
    )
    return max(float(rate) for rate, _ in rows)
