"""One library, every stock interpreter: each in a process of its own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import importlib, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, {tests!r})
from lce_ops import Bconv2d, pack, run
litert = importlib.import_module({module!r}) if {module!r} else __import__("tensorflow").lite
if not {module!r}:
    litert.load_delegate = litert.experimental.load_delegate
cases = [
    Bconv2d(1, 1, 1, 64, 8), Bconv2d(3, 5, 7, 96, 40, strides=(2, 2)),
    Bconv2d(1, 6, 6, 33, 70, pad_values=1, output="packed"),
    Bconv2d(1, 6, 6, 128, 16, output="int8", activation=1),
]
for case in cases:
    for threads in (1, 2):
        output = run(litert, case.model(), pack(case.inputs), num_threads=threads)
        assert output.tobytes() == case.expected().tobytes(), case
print("equal", len(cases))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["ai_edge_litert.interpreter", "tflite_runtime.interpreter", ""], ids=str
)
def test_interpreter(module):
    package = module.split(".")[0] or "tensorflow"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it has no wheel for this Python or platform")
    script = SCRIPT.format(module=module, tests=str(Path(__file__).parents[1] / "helpers"))
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["equal", "4"]
