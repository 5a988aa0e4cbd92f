"""From a float `.tflite` file of a 1-bit network to one that computes with bits.

Any front end's own converter writes a float file: TensorFlow's, Keras 3's, PyTorch's. In it a 1-bit
layer is a sign, an ordinary convolution and a kernel of -s and +s. `binarize` finds these, and
writes the operators of Larq Compute Engine (LCE) in their place. It computes with NumPy, and
imports no training framework.

    graph, constants -> signs -> match -> fuse -> decide -> emit -> grouped -> the file
"""

from dataclasses import dataclass
from typing import Literal

from bireal_keras.export.binarize import emit, fake_quant, fuse, grouped
from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.decide import decide
from bireal_keras.export.binarize.graph import Graph, Operator
from bireal_keras.export.binarize.match import LAYERS, Matcher, Plan
from bireal_keras.export.binarize.reasons import Reason
from bireal_keras.export.binarize.signs import Sign, Signs

__all__ = ["Layer", "PackedSign", "Result", "binarize"]


@dataclass(frozen=True)
class Layer:
    """A convolution or dense layer that reads a sign or has a 1-bit kernel.

    Attributes:
        name: of the tensor that it writes in the float file, or of its kernel, see
            `graph.Graph.layer_name`.
        kind: its operator there, "CONV_2D".
        binary: whether it became an LceBconv2d.
        code: why it did not, in a word; "" if it did.
        explanation: why it did not, in a sentence, and what to write instead.
        zero_weights: how many weights of exactly 0 count as +1.
        tensor: index of the tensor that its operator writes in the binary file; None where no
            result needs the layer.
    """

    name: str
    kind: str
    binary: bool
    code: str = ""
    explanation: str = ""
    zero_weights: int = 0
    tensor: int | None = None


@dataclass(frozen=True)
class PackedSign:
    """A sign in the float file and the bits that became of it.

    Attributes:
        sign: in the float file.
        bits: index of the packed tensor in the binary file.
        real: index of the float32 tensor there whose signs they are; None where they were not
            made of one.
    """

    sign: Sign
    bits: int
    real: int | None


@dataclass(frozen=True)
class Result:
    """A binary file, and what became of each layer.

    Attributes:
        content: of the `.tflite` file.
        layers: in the order of execution.
        signs: that its binary layers read.
    """

    content: bytes
    layers: tuple[Layer, ...]
    signs: tuple[PackedSign, ...]


def binarize(
    content: bytes,
    *,
    zero_sign: Literal["refuse", "+1"] = "refuse",
    zero_weights: Literal["refuse", "+1"] = "refuse",
) -> Result:
    """Packs the 1-bit layers of a float `.tflite` file.

    A layer becomes an LceBconv2d where the file proves that its input is -a or +a and each of its
    filters has one magnitude. Everything else stays as it is. The same input gives the same bytes.

    Args:
        content: of a float32 file with one subgraph.
        zero_sign: what a sign is worth that is 0 for 0, tf.sign and torch.sign. "refuse" keeps
            the layer in float; "+1" counts 0 as +1, except where zeros are to be expected: after a
            ReLU, or for a sum of signs.
        zero_weights: what a weight of exactly 0 is worth. "refuse" keeps the layer in float; "+1"
            counts it as +1. Filters of nothing but zeros need neither.

    Raises:
        ValueError: an argument is out of its range; the file is damaged, or is not such a file.
    """
    for name, value in (("zero_sign", zero_sign), ("zero_weights", zero_weights)):
        if value not in ("refuse", "+1"):
            raise ValueError(f"`{name}` must be 'refuse' or '+1'. Received: {name}={value!r}.")
    graph = Graph(content)
    fake_quant.fold(graph)
    constants = Constants(graph)
    matcher = Matcher(
        graph,
        constants,
        Signs(graph, constants),
        zero_sign=zero_sign == "+1",
        zero_weights=zero_weights == "+1",
    )
    matches: dict[Operator, Plan | Reason] = {}
    for operator in graph.operators:
        found = matcher.match(operator) if operator.name in LAYERS else None
        if found is not None:
            matches[operator] = found
    plans = [found for found in matches.values() if isinstance(found, Plan)]
    readers = graph.readers()
    results = [
        (plan, output) for plan in plans for output in fuse.follow(graph, constants, readers, plan)
    ]
    decision = decide(graph, results)
    bits, written = emit.emit(graph, decision)
    grouped.merge(graph)
    binary, places = graph.write()
    layers = []
    for operator, found in matches.items():
        name = graph.layer_name(operator)
        tensor = places.get(written.get(operator, operator.outputs[0]))
        if isinstance(found, Plan):
            layer = Layer(name, operator.name, True, zero_weights=found.zero_weights, tensor=tensor)
        else:
            layer = Layer(name, operator.name, False, found.code, found.text, tensor=tensor)
        layers.append(layer)
    signs = tuple(
        PackedSign(
            sign,
            places[found.tensor],
            None if found.real is None else places[found.real],
        )
        for sign, found in bits
    )
    return Result(binary, tuple(layers), signs)
