"""Files that take pixels: what makes a model's input of them becomes operators of the file.

A camera and a decoder give pixels of uint8, and a network wants floats, in Bi-Real Net's case
pixel / 127.5 - 1. `take_pixels` puts that before the first operator, as CAST, MUL and SUB, so that
any interpreter gives for pixels what it gave for the floats. The delegate computes a stem on the
pixels themselves; with `real_layers="int8"` its sums are integers, which takes one factor for all
colours: others become a part of the stem's kernel, before that is rounded to int8.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.export import probes
from bireal_keras.export.real_layers import compact
from bireal_keras.tflite.metadata import NORMALIZATIONS, Metadata, Normalization
from bireal_keras.tflite.metadata_writer import embed
from bireal_keras.tflite.model import (
    Graph,
    add_constant,
    add_tensor,
    opcode,
    replace_constant,
    serialize,
    unpack,
)

INPUT_TYPES = ("float32", "uint8")

# `runtime.prepare` rounds in other places: a few units in the last place of what is subtracted.
_ROUNDING = 4 * np.finfo(np.float32).eps


def of_pixels(content: bytes, metadata: Metadata, *, real_layers: str, name: str) -> bytes:
    """The file that takes pixels in place of the floats that `metadata` say how to make of them.

    Args:
        content: of a TFLite model of one image, float32 (batch, height, width, channels), without
            metadata and with real-valued layers in float32; from our own converter.
        metadata: of that model.
        real_layers: the precision that real-valued layers get, see `real_layers`.
        name: of the model.

    Returns:
        The content of the other file, with its metadata: an image's pixels are taken as they are.

    Raises:
        ValueError: the operators do not make what `metadata` say; that is an error of ours.
    """
    normalization = metadata.normalization
    if real_layers == "int8":
        content, normalization = with_one_factor(content, normalization)
    pixels = take_pixels(compact(content, real_layers), normalization)
    _check(pixels, normalization)
    raw = Metadata(
        labels=metadata.labels,
        image_size=metadata.image_size,
        normalization=NORMALIZATIONS["raw"],
        center_crop=metadata.center_crop,
        channels=metadata.channels,
    )
    return embed(pixels, raw, name=name)


def with_one_factor(content: bytes, normalization: Normalization) -> tuple[bytes, Normalization]:
    """Moves what differs between the colours' factors into the kernel of the first convolution.

    With s the mean of the deviations, (pixel - mean) / std is (pixel - mean) / s times s / std, by
    which the weights of a colour can be multiplied as well. What stands outside of the image is 0
    in both, so padding stays what it is.

    Args:
        content: of a TFLite model with one input, float32 (batch, height, width, channels).
        normalization: what makes the input of pixels.

    Returns:
        The content of the file that takes images of the normalization beside it, and that one: both
        as they were where factors do not differ, or where something else than convolutions of all
        channels reads the image.
    """
    _, std = _numbers(normalization)
    graph = Graph(content)
    [image] = graph.inputs
    readers = graph.readers(image)
    kernels = {reader.inputs[1] for reader in readers if reader.name == "CONV_2D"}
    values = {kernel: graph.tensors[kernel].values for kernel in kernels}
    if (
        (std == std[0]).all()
        or image in graph.outputs
        or any(reader.name != "CONV_2D" for reader in readers)
        or any(value is None or value.shape[-1] != std.size for value in values.values())
        or any(set(graph.readers(kernel)) - set(readers) for kernel in kernels)
    ):
        return content, normalization
    one = std.mean(dtype=np.float64)
    model = unpack(content)
    for index, value in values.items():
        replace_constant(model, index, (value * (one / std.astype(np.float64))).astype(np.float32))
    return serialize(model), Normalization(normalization.mean, (float(one),))


def take_pixels(content: bytes, normalization: Normalization) -> bytes:
    """Puts CAST, MUL and SUB before the first operator, as far as they do something.

    The new input has the name of the old one; the tensors that were there keep their numbers.

    Args:
        content: of a TFLite model with one input, float32 (batch, height, width, channels).
        normalization: what makes the input of pixels.
    """
    model = unpack(content)
    graph = model.subgraphs[0]
    [image] = graph.inputs
    floats = graph.tensors[image]
    name = floats.name
    pixels = add_tensor(model, name, floats.shape, schema.TensorType.UINT8)
    graph.inputs = [pixels]
    for signature in model.signatureDefs or []:
        for entry in signature.inputs:
            entry.tensorIndex = pixels
    floats.name = name + b"/normalized"

    mean, std = _numbers(normalization)
    constants: dict[str, np.ndarray | None] = {"CAST": None}
    if (std != 1).any():
        constants["MUL"] = 1 / std
    if (mean != 0).any():
        constants["SUB"] = mean / std
    operators, source = [], pixels
    for kind, constant in constants.items():
        label = name + b"/" + kind.lower().encode()
        inputs = [source]
        if constant is not None:
            inputs.append(add_constant(model, label + b"/by", constant))
        source = image
        if kind != list(constants)[-1]:
            source = add_tensor(model, label, floats.shape, schema.TensorType.FLOAT32)
        operators.append(_operator(model, kind, inputs, source))
    graph.operators = [*operators, *graph.operators]
    return serialize(model)


def _numbers(normalization: Normalization) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation, float32."""
    return np.array(normalization.mean, np.float32), np.array(normalization.std, np.float32)


def _operator(model: schema.ModelT, kind: str, inputs: list[int], output: int) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex = opcode(model, getattr(schema.BuiltinOperator, kind), 1)
    operator.inputs, operator.outputs = inputs, [output]
    table = f"{kind.title()}Options"
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
    operator.builtinOptions = getattr(schema, f"{table}T")()
    if kind == "CAST":
        operator.builtinOptions.inDataType = schema.TensorType.UINT8
        operator.builtinOptions.outDataType = schema.TensorType.FLOAT32
    return operator


def _check(content: bytes, normalization: Normalization) -> None:
    """Runs the operators before the first one that was there on every pixel that there is."""
    model = unpack(content)
    graph = model.subgraphs[0]
    [pixels] = graph.inputs
    made = next(
        position
        for position, operator in enumerate(graph.operators, start=1)
        if graph.tensors[operator.outputs[0]].name.endswith(b"/normalized")
    )
    graph.operators = graph.operators[:made]
    graph.outputs = list(graph.operators[-1].outputs)
    model.signatureDefs = None
    run = probes.run_on_runtime(serialize(model), xnnpack=False)

    shape = [int(size) for size in graph.tensors[pixels].shape]
    # Each channel gets all of them.
    levels = np.resize(np.arange(256, dtype=np.uint8), max(256, int(np.prod(shape[:-1]))))
    mean, std = _numbers(normalization)
    for start in range(0, len(levels), int(np.prod(shape[:-1]))):
        image = np.resize(levels[start:], shape[:-1])[..., None].repeat(shape[-1], axis=-1)
        expected = image.astype(np.float32) / std - mean / std
        [actual] = run([image])
        allowed = _ROUNDING * (np.abs(image / std) + np.abs(mean / std))
        if not (np.abs(actual - expected) <= allowed).all():
            raise ValueError("The file does not make of pixels what its normalization says.")
