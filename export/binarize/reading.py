"""Reads a `.tflite` file that nobody has checked."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

# How much larger than the file what is unpacked may be. In a file of a converter almost nothing
# is stored once and read twice.
_EXPANSION = 4
_SLACK_BYTES = 1 << 16
# Texts, by the number of their field in the schema: in OperatorCode, Tensor, SignatureDef, Model,
# SubGraph, and in Metadata and TensorMap.
_CUSTOM_CODE, _TENSOR_NAME, _SIGNATURE_KEY, _DESCRIPTION, _GRAPH_NAME, _NAME = 1, 3, 2, 3, 4, 0

# These are what has a loop or a state, mostly.
_RECURRENT = "Convert recurrent layers unrolled: LSTM, GRU and SimpleRNN of Keras take unroll=True"


def read(content: bytes) -> schema.ModelT:
    """Unpacks a model of one subgraph.

    What the tables of the schema point to may overlap, so a small file could unpack to a large
    model. It is added up first, and the work is bounded by the size of the file.

    Raises:
        ValueError: it is not a `.tflite` file, is damaged, or has what a float file of one
            network does not have: several subgraphs, variables, a state, constants in other files.
    """
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise ValueError("This is not a .tflite file: it does not start as one.")
    try:
        packed = schema.Model.GetRootAs(content)
        budget = _EXPANSION * len(content) + _SLACK_BYTES
        for spent in _parts(packed):
            budget -= spent
            if budget < 0:
                raise ValueError("its tables overlap")
        model = schema.ModelT.InitFromObj(packed)
        _check_size(model, _EXPANSION * len(content) + _SLACK_BYTES)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise ValueError(f"The .tflite file cannot be read: {error}") from error
    return model


def _parts(model: schema.Model) -> Iterator[int]:
    """What unpacking costs, a number for each table, as the tables are found."""
    subgraphs = model.SubgraphsLength()
    if subgraphs != 1:
        raise ValueError(
            f"it must have one subgraph, without control flow. Received: {subgraphs}. {_RECURRENT}"
        )
    if model.ExternalBuffersLength():
        raise ValueError("its constants lie in other files. Convert to one file")
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        if code.BuiltinCode() == schema.BuiltinOperator.VAR_HANDLE:
            raise ValueError(
                "it reads its weights from variables (VAR_HANDLE), which are not in the file. "
                "Convert the model from a SavedModel, or from the Keras model itself"
            )
        yield 1 + _text(code, _CUSTOM_CODE)
    for index in range(model.BuffersLength()):
        if model.Buffers(index).Offset() > 1:
            raise ValueError("it is larger than 2 GB")
        yield 1
    graph = model.Subgraphs(0)
    yield _text(model, _DESCRIPTION) + _text(graph, _GRAPH_NAME)
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        if tensor.Sparsity() is not None or tensor.VariantTensorsLength():
            raise ValueError("it has sparse tensors. Convert without optimizations")
        if tensor.IsVariable():
            raise ValueError(
                "it keeps a state from one run to the next (a variable tensor), so that what it "
                f"computes of an image depends on those before. {_RECURRENT}"
            )
        yield 1 + _text(tensor, _TENSOR_NAME)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        if operator.BuiltinOptions2Type() or operator.LargeCustomOptionsOffset():
            raise ValueError("it has operators of StableHLO, which LiteRT does not run")
        yield 1
    for index in range(model.MetadataLength()):
        yield 1 + _text(model.Metadata(index), _NAME)
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        yield 1 + _text(signature, _SIGNATURE_KEY)
        for number in range(signature.InputsLength()):
            yield 1 + _text(signature.Inputs(number), _NAME)
        for number in range(signature.OutputsLength()):
            yield 1 + _text(signature.Outputs(number), _NAME)


def _text(table: Any, field: int) -> int:
    """Bytes of a text, which LiteRT's code for Python would cut off at the end of the file."""
    offset = table._tab.Offset(4 + 2 * field)
    if not offset:
        return 0
    length: int = table._tab.VectorLen(offset)
    # A zero follows it.
    if table._tab.Vector(offset) + length >= len(table._tab.Bytes):
        raise ValueError("a text is cut off")
    return length


def _check_size(model: schema.ModelT, limit: int) -> None:
    """Numbers were not copied yet: unpacked vectors are views of the file."""
    parts: list[Any] = [model]
    while parts:
        part = parts.pop()
        if isinstance(part, np.ndarray):
            limit -= part.nbytes
        elif isinstance(part, bytes):
            limit -= len(part)
        elif isinstance(part, list):
            parts.extend(part)
        elif hasattr(part, "__dict__"):
            parts.extend(vars(part).values())
        if limit < 0:
            raise ValueError("its tables overlap")
