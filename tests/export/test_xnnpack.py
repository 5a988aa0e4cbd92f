"""Whatever the delegate leaves to LiteRT runs on XNNPACK: our partitions cut none of it off."""

import pytest
from ai_edge_litert import schema_py_generated as schema

from bireal_keras import runtime
from bireal_keras.export.real_layers import PRECISIONS, compact
from bireal_keras.runtime.profile import profile


@pytest.mark.parametrize("precision", PRECISIONS)
def test_xnnpack_runs_every_op_that_is_left(precision, small):
    content = compact(small.content, precision)
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    interpreter = runtime.Interpreter(content, float_ops="litert")._interpreter
    details = interpreter._get_ops_details()
    delegates = {
        (frozenset(op["inputs"]), frozenset(op["outputs"]))
        for op in details[len(graph.operators) :]
    }
    assert {op["op_name"] for op in details[len(graph.operators) :]} == {"DELEGATE"}

    entries = profile(content, num_runs=1, float_ops="litert")
    stretches = [entry.nodes for entry in entries if not entry.delegated]
    # They are the stem, the shortcut of the second stage, and the classifier.
    assert len(stretches) == 3
    for nodes in stretches:
        read = {t for node in nodes for t in graph.operators[node].inputs if t >= 0}
        written = {t for node in nodes for t in graph.operators[node].outputs}
        others = [op for index, op in enumerate(graph.operators) if index not in nodes]
        wanted = set(graph.outputs).union(*(op.inputs for op in others))
        # They are one op of XNNPACK's, which reads and writes what they do together.
        assert (frozenset(read - written), frozenset(written & wanted)) in delegates
