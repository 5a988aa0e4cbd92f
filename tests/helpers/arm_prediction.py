"""benchmarks/arm_kernels.py, arm_steps.py and arm_computers.py as modules."""

import sys
from pathlib import Path

# At the end: scripts there have names that others have as well.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import arm_computers
import arm_kernels
import arm_steps

__all__ = ["arm_computers", "arm_kernels", "arm_steps"]
