"""What elementwise operators of TFLite compute, in NumPy.

For constants, and for tensors that take a handful of values only. Results keep the type of the
operands where TFLite does.
"""

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.export.binarize.graph import Graph, Operator

COMPARISONS: dict[str, Callable[..., np.ndarray]] = {
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "NOT_EQUAL": np.not_equal,
}
_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    **COMPARISONS,
    "ABS": np.abs,
    "ADD": np.add,
    "CEIL": np.ceil,
    "DIV": np.divide,
    "EXP": np.exp,
    "FLOOR": np.floor,
    "LOGICAL_AND": np.logical_and,
    "LOGICAL_NOT": np.logical_not,
    "LOGICAL_OR": np.logical_or,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "NEG": np.negative,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "ROUND": np.rint,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "SELECT": np.where,
    "SELECT_V2": np.where,
    "SIGN": np.sign,
    "SQRT": np.sqrt,
    "SQUARE": np.square,
    "SUB": np.subtract,
    "TANH": np.tanh,
}
_OPERANDS = {"LOGICAL_NOT": 1, "SELECT": 3, "SELECT_V2": 3}
_UNARY = (
    *("ABS", "CAST", "CEIL", "EXP", "FLOOR", "NEG", "RELU", "RELU6", "RELU_0_TO_1"),
    *("RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SQRT", "SQUARE", "TANH"),
)
# Activations that an operator applies to its result, by the operators that do the same.
ACTIVATIONS = {
    schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
    schema.ActivationFunctionType.RELU6: "RELU6",
    schema.ActivationFunctionType.TANH: "TANH",
}


def operands(operator: Operator) -> int:
    """How many operands an elementwise operator takes; 0 for other operators."""
    if operator.name in _UNARY:
        return 1
    return _OPERANDS.get(operator.name, 2) if operator.name in _FUNCTIONS else 0


def evaluate(graph: Graph, operator: Operator, *values: np.ndarray) -> np.ndarray | None:
    """The result of an elementwise operator; None for one that is not known.

    Args:
        graph: that the operator is in.
        operator: for which `operands` is not 0.
        values: its operands, which may be broadcast.
    """
    with np.errstate(all="ignore"):
        if operator.name == "CAST":
            dtype = graph.dtype(operator.outputs[0])
            return None if dtype is None else values[0].astype(dtype)
        try:
            result = _FUNCTIONS[operator.name](*values)
            if operator.activation:
                result = _FUNCTIONS[ACTIVATIONS[operator.activation]](result)
        # An activation that is not known, and operands of types or shapes that do not fit.
        except (KeyError, TypeError, ValueError):
            return None
    return result if result.dtype == graph.dtype(operator.outputs[0]) else None
