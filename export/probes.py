"""Reading a `.tflite` file's inner tensors.

A tap is a tensor that became an output of the model beside its own. It is then computed as in the
file it comes from, but can be looked at.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from bireal_keras import _native_log, runtime
from bireal_keras.export._lce import lce
from bireal_keras.tflite.model import serialize

# From images (n, height, width, channels) to what the outputs of a file are for them, in the
# file's order, each (n, ...).
Runner = Callable[[np.ndarray], list[np.ndarray]]

_OPERATORS = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}


@dataclass(frozen=True)
class BinaryConvolution:
    """An `LceBconv2d` and where its input comes from.

    Attributes:
        filters: (out, height, width, words) uint32, see `flatbuffer.Multiplication.kernel`.
        signs: index of the tensor it reads, bit-packed.
        input_shape: (height, width, channels) of what is packed there.
        real: index of the float32 tensor whose signs these are; None where another operator made
            them.
    """

    filters: np.ndarray
    signs: int
    input_shape: tuple[int, int, int]
    real: int | None


@dataclass(frozen=True)
class Graph:
    """What has to be known about a file to look into it.

    Attributes:
        convolutions: its binary convolutions, in execution order.
        operators: names of all operators, "CONV_2D" or "LceQuantize".
        outputs: indices of the tensors it returns.
    """

    convolutions: list[BinaryConvolution]
    operators: list[str]
    outputs: list[int]


def read(content: bytes) -> Graph:
    """Finds the binary convolutions of a TFLite model's first subgraph."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    names = [_name(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators]
    quantized = {
        operator.outputs[0]: operator.inputs[0]
        for name, operator in zip(names, graph.operators)
        if name == "LceQuantize"
        and graph.tensors[operator.inputs[0]].type == schema.TensorType.FLOAT32
    }
    convolutions = []
    for name, operator in zip(names, graph.operators):
        if name == "LceBconv2d":
            signs = operator.inputs[0]
            filters = graph.tensors[operator.inputs[1]]
            words = np.asarray(model.buffers[filters.buffer].data, np.uint8).view("<u4")
            channels = flexbuffers.Loads(bytes(operator.customOptions))["channels_in"]
            _, height, width, _ = graph.tensors[signs].shape
            convolutions.append(
                BinaryConvolution(
                    filters=words.reshape(filters.shape),
                    signs=int(signs),
                    input_shape=(int(height), int(width), int(channels)),
                    real=int(quantized[signs]) if signs in quantized else None,
                )
            )
    return Graph(convolutions, names, [int(index) for index in graph.outputs])


def _name(code: schema.OperatorCodeT) -> str:
    if code.customCode:
        return code.customCode.decode()
    # Old files have the deprecated field only.
    return _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")


def with_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """The same model, with these tensors as its outputs."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.subgraphs[0].outputs = list(tensors)
    # They name the outputs.
    model.signatureDefs = None
    return serialize(model)


def unpack(words: np.ndarray, channels: int) -> np.ndarray:
    """Bit-packed signs (..., words) int32 as (..., channels) bool, True for -1."""
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little", count=channels).astype(bool)


def run_on_lce(content: bytes) -> Runner:
    """Runs a file on LCE's interpreter.

    On its reference kernel: the default one is wrong where a filter is larger than the map.

    Raises:
        ValueError: here or when it runs, the file does not run there.
    """

    with _explained():
        interpreter = lce.testing.Interpreter(content, use_reference_bconv=True)

    def run(images: np.ndarray) -> list[np.ndarray]:
        with _explained():
            outputs = interpreter.predict(images)
        return outputs if isinstance(outputs, list) else [outputs]

    return run


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    with _native_log.captured() as native_errors:
        try:
            yield
        except Exception as error:
            raise ValueError(
                "The converted file does not run on LCE's reference kernel, so it cannot be "
                f"checked: {native_errors()} {error}"
            ) from error


def run_on_runtime(content: bytes) -> Runner:
    """Runs a file on LiteRT with our delegate.

    Raises:
        ValueError: the file does not run there.
    """
    try:
        with _native_log.captured():
            interpreter = litert.Interpreter(
                model_content=content, experimental_delegates=[runtime.load_delegate()]
            )
            interpreter.allocate_tensors()
    except RuntimeError as error:
        raise ValueError(f"The file does not run on LiteRT: {error}") from error
    [image] = interpreter.get_input_details()
    indices = [details["index"] for details in interpreter.get_output_details()]

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs: list[list[np.ndarray]] = [[] for _ in indices]
        for index in range(len(images)):
            interpreter.set_tensor(image["index"], images[index : index + 1])
            interpreter.invoke()
            for values, output in zip(outputs, indices):
                values.append(interpreter.get_tensor(output))
        return [np.concatenate(values) for values in outputs]

    return run
