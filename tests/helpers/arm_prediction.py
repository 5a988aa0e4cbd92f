"""benchmarks/arm_kernels.py, arm_steps.py and predict.py as modules."""

import sys
from pathlib import Path

# At the end: scripts there have names that others have as well.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import arm_kernels
import arm_steps
import predict

__all__ = ["arm_kernels", "arm_steps", "predict"]
