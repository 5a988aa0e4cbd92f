"""Reading what LCE's converter wrote."""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_FLOAT_CONVOLUTIONS = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
)


@dataclass(frozen=True)
class Convolution:
    """A convolution of a TFLite model.

    Attributes:
        binary: whether it is LCE's `LceBconv2d`.
        filters: (out, height, width, words) uint32 if binary: 32 input channels a word,
            the first in the lowest bit, a set bit for -1, unused bits zero. Otherwise
            None.
    """

    binary: bool
    filters: np.ndarray | None


def convolutions(flatbuffer: bytes) -> list[Convolution]:
    """The convolutions of a TFLite model's first subgraph, in execution order."""
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if code.customCode == b"LceBconv2d":
            tensor = graph.tensors[operator.inputs[1]]
            words = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view("<u4")
            found.append(Convolution(binary=True, filters=words.reshape(tensor.shape)))
        elif code.builtinCode in _FLOAT_CONVOLUTIONS:
            found.append(Convolution(binary=False, filters=None))
    return found


def packed_filters(signs: np.ndarray) -> np.ndarray:
    """Packs filters as LCE does.

    Args:
        signs: (out, height, width, in) bool, True for -1.

    Returns:
        (out, height, width, ceil(in / 32)) uint32, see `Convolution.filters`.
    """
    padding = -signs.shape[-1] % 32
    signs = np.pad(signs, [(0, 0)] * 3 + [(0, padding)])
    # In whatever order the memory of a transposed kernel is, words take four bytes in a row.
    packed = np.ascontiguousarray(np.packbits(signs, axis=-1, bitorder="little"))
    return packed.view("<u4")
