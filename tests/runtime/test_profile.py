"""runtime.profile: every op is listed, and the times are those of the run."""

import json
import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from commands import command
from lce_graph import Graph
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack

from bireal_keras import runtime
from bireal_keras.runtime.profile import profile

SHAPE = (1, 6, 6, 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """ABS, then a residual block and the sign of its sum, then two builtin ops."""
    case = Bconv2d(*SHAPE, 64)
    packed = Tensor((1, 6, 6, 2), np.int32)
    constants = [constant(pack(case.kernel)), constant(case.multiplier), constant(case.bias)]
    tensors = [Tensor(SHAPE), Tensor(SHAPE), packed, *constants]
    tensors += [Tensor(SHAPE), Tensor(SHAPE), Tensor(SHAPE), Tensor(SHAPE)]
    ops = [
        Op("ABS", [0], [1], builtin=("AbsOptions", schema.AbsOptionsT())),
        Op("LceQuantize", [1], [2]),
        Op("LceBconv2d", [2, 3, 4, 5, -1], [6], case.options),
        Op("ADD", [6, 1], [7], builtin=("AddOptions", schema.AddOptionsT())),
        Op("ABS", [7], [8], builtin=("AbsOptions", schema.AbsOptionsT())),
        Op("ABS", [8], [9], builtin=("AbsOptions", schema.AbsOptionsT())),
    ]
    path = tmp_path_factory.mktemp("models") / "block.tflite"
    path.write_bytes(build_model(tensors, ops, [0], [9]))
    return path


def test_every_op_is_listed_where_it_runs(model):
    entries = profile(model, num_runs=3, num_threads=2)
    assert [(entry.ops, entry.nodes, entry.delegated) for entry in entries] == [
        (("ABS",), (0,), False),
        (("LceQuantize",), (1,), True),
        (("LceBconv2d", "ADD"), (2, 3), True),
        (("ABS", "ABS"), (4, 5), False),
    ]


def test_the_times_add_up_to_the_run(model):
    # It is one run, since medians of several need not add up.
    start = time.perf_counter()
    entries = profile(model, num_runs=1, warmup_runs=0)
    elapsed = (time.perf_counter() - start) * 1e3
    times = [entry.milliseconds for entry in entries]
    assert min(times) > 0
    assert sum(times) < elapsed


def test_bench_prints_the_profile(model):
    result = command("bench", model, "--num_runs=3", "--profile")
    assert result.returncode == 0, result.stderr
    _, *rows, total = result.stdout.splitlines()
    assert [row.split("%", 1)[1].split() for row in rows] == [
        ["LiteRT", "ABS", "(op", "0)"],
        ["delegate", "LceQuantize", "(op", "1)"],
        ["delegate", "LceBconv2d", "+", "ADD", "(op", "2,", "3)"],
        ["LiteRT", "2", "ABS", "(op", "4,", "5)"],
    ]
    milliseconds = [float(row.split()[0]) for row in rows]
    assert float(total.split()[0]) == pytest.approx(sum(milliseconds), abs=0.002)

    result = command("bench", model, "--num_runs=3", "--profile", "--json")
    (figures,) = json.loads(result.stdout)
    assert [entry["nodes"] for entry in figures["profile"]] == [[0], [1], [2, 3], [4, 5]]


def test_what_a_mean_does_before_it_is_listed_with_it():
    graph = Graph(SHAPE)
    scales = np.linspace(0.5, 2, SHAPE[-1], dtype=np.float32)
    scaled = graph.channel_op("ADD", graph.channel_op("MUL", graph.block(0), scales), scales)
    gate = graph.gate(scaled)
    content = build_model(graph.tensors, graph.ops, [0], [gate])
    entries = profile(content, num_runs=1, float_ops="delegate")
    assert [(entry.ops, entry.nodes, entry.delegated) for entry in entries] == [
        (("LceQuantize",), (0,), True),
        (("LceBconv2d", "ADD"), (1, 2), True),
        (("MUL", "ADD", "MEAN"), (3, 4, 5), True),
        (("LOGISTIC",), (6,), True),
    ]


def test_a_profile_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="`profile` must be the path of a file to write"):
        runtime.load_delegate(profile=tmp_path / "missing" / "profile.csv")
