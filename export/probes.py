"""Reading a `.tflite` file's inner tensors.

A probe is an inner tensor that became an output of the model beside its own. It is then computed as
in the file it comes from, but can be looked at.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from bireal_keras import _native_log, runtime
from bireal_keras.cost.tflite_model import BINARY
from bireal_keras.tflite.model import Graph, serialize, unpack

# A runner takes what a file's inputs get, each (n, ...), and gives the outputs for them, each
# (n, ...), both in the file's order.
Runner = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class BinaryConvolution:
    """An `LceBconv2d` and where its input comes from.

    Attributes:
        kernel: (out, height, width, words) uint32, see `packing`.
        signs: number of the tensor it reads, bit-packed.
        input_shape: (height, width, channels) of what is packed there.
        real: number of the float32 or int8 tensor whose signs these are; None where another
            operator made them.
    """

    kernel: np.ndarray
    signs: int
    input_shape: tuple[int, int, int]
    real: int | None

    @property
    def is_binary(self) -> bool:
        return True


def binary_convolutions(graph: Graph) -> list[BinaryConvolution]:
    """Those of a file, in the order of their execution."""
    quantized = {
        operator.outputs[0]: operator.inputs[0]
        for operator in graph.operators
        if operator.name == "LceQuantize"
        and graph.tensors[operator.inputs[0]].type
        in (schema.TensorType.FLOAT32, schema.TensorType.INT8)
    }
    convolutions = []
    for operator in graph.operators:
        if operator.name == BINARY:
            signs = operator.inputs[0]
            kernel = graph.tensors[operator.inputs[1]].values
            if kernel is None:
                raise ValueError("The file has a binary convolution without filters.")
            _, height, width, _ = graph.tensors[signs].shape
            convolutions.append(
                BinaryConvolution(
                    kernel=kernel.view("<u4"),
                    signs=signs,
                    input_shape=(height, width, operator.option("channels_in")),
                    real=quantized.get(signs),
                )
            )
    return convolutions


def with_outputs(content: bytes, tensors: Sequence[int]) -> bytes:
    """The same model, with these tensors as its outputs."""
    model = unpack(content)
    model.subgraphs[0].outputs = list(tensors)
    # They name the outputs.
    model.signatureDefs = None
    return serialize(model)


def run_on_lce(content: bytes) -> Runner:
    """Runs a file on LCE's interpreter.

    On its reference kernel: the default one is wrong where a filter is larger than the map.

    Raises:
        ValueError: here or when it runs, the file does not run there.
        ImportError: LCE is not installed.
    """
    from bireal_keras.export._lce import lce  # Which not every platform has.

    with _explained():
        interpreter = lce.testing.Interpreter(content, use_reference_bconv=True)

    def invoke(inputs: list[np.ndarray]) -> list[np.ndarray]:
        # LCE takes NumPy's own objects for dtypes only, and what was pickled has copies of them, as
        # images have that another process loaded.
        inputs = [values.view(values.dtype.type) for values in inputs]
        with _explained():
            # Its own `predict` takes files of one image at a time only.
            return interpreter.interpreter.predict(inputs)

    return _in_batches(invoke, interpreter.input_shapes[0][0])


def missing_on_lce(content: bytes, inputs: Sequence[np.ndarray]) -> str:
    """Why a file cannot be asked of LCE's reference kernel; "" if it can.

    LCE may not be installed, and its kernels lack some of what our runtime computes: zero padding
    of an odd number of channels, groups.

    Args:
        content: of the file.
        inputs: samples for it, in its order.
    """
    graph = Graph(content)
    size = graph.tensors[graph.inputs[0]].shape[0]
    try:
        run_on_lce(content)([values[:size] for values in inputs])
    except (ImportError, ValueError) as error:
        return str(error)
    return ""


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


def run_on_runtime(content: bytes, *, xnnpack: bool = True) -> Runner:
    """Runs a file on LiteRT with our delegate.

    Args:
        content: of the file.
        xnnpack: whether XNNPACK may compute what the delegate leaves, as it does by default;
            otherwise LiteRT's own kernels do.

    Raises:
        ValueError: the file does not run there.
    """
    resolvers = litert.OpResolverType
    try:
        with _native_log.captured():
            interpreter = litert.Interpreter(
                model_content=content,
                experimental_delegates=[runtime.load_delegate()],
                experimental_op_resolver_type=(
                    resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
            interpreter.allocate_tensors()
    # LiteRT says the second of what is not a model at all.
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The file does not run on LiteRT: {error}") from error
    sources = [details["index"] for details in interpreter.get_input_details()]
    indices = [details["index"] for details in interpreter.get_output_details()]

    def invoke(inputs: list[np.ndarray]) -> list[np.ndarray]:
        for index, values in zip(sources, inputs):
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in indices]

    return _in_batches(invoke, int(interpreter.get_input_details()[0]["shape"][0]))


def _in_batches(invoke: Runner, size: int) -> Runner:
    """A runner of any multiple of the images that a file takes at a time."""

    def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
        count = len(inputs[0])
        outputs = [
            invoke([values[start : start + size] for values in inputs])
            for start in range(0, count, size)
        ]
        # An output without any axis is one number for each run.
        return [np.concatenate([*map(np.atleast_1d, batches)]) for batches in zip(*outputs)]

    return run
