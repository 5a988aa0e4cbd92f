"""A process that is forked has none of its parent's threads, and does without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")

# Runs a model in the parent and in children, which then end as `how` says.
SCRIPT = """
import gc, os, sys, time
sys.path.insert(0, {tests!r})
import ai_edge_litert.interpreter as litert
from lce_ops import Bconv2d, pack
from bireal_keras import runtime

how = sys.argv[1]
case = Bconv2d(1, 8, 8, 64, 64)


def make(threads):
    delegate = runtime.load_delegate(num_threads=threads)
    interpreter = litert.Interpreter(model_content=case.model(), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    return interpreter, delegate


def run(interpreter):
    interpreter.set_tensor(0, pack(case.inputs))
    interpreter.invoke()
    assert interpreter.get_tensor(2).tobytes() == case.expected().tobytes()


# Right after a run the threads are awake, and a little later they sleep.
for threads, pause in [(1, 0), (2, 0), (4, 0), (2, 0.1), (4, 0.1)]:
    interpreter, delegate = make(threads)
    run(interpreter)
    time.sleep(pause)
    child = os.fork()
    if child == 0:
        run(interpreter)
        if how == "del":
            del interpreter, delegate
            gc.collect()
        elif how == "threads":
            # A delegate of the child's own, beside the one that it was given.
            interpreter, other = make(threads)
            run(interpreter)
        elif how == "_exit":
            os._exit(0)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, (threads, pause, status)
    run(interpreter)
print("all ran")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "_exit", "del", "threads"])
def test_a_child_runs_and_ends(how):
    script = SCRIPT.format(tests=str(Path(__file__).parents[1] / "helpers"))
    result = subprocess.run(
        [sys.executable, "-c", script, how], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["all", "ran"]
