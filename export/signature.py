"""What a Keras model takes and gives, whichever way it was made."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bireal_keras._keras import keras, tf
from bireal_keras.tflite.model import Graph


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; what is made of several tensors is flattened by `tf.nest`.

    Attributes:
        structure: what the model is called with: a tf.TensorSpec, or a list or a dictionary of
            them.
        outputs: shapes of what it gives, (batch, ...).
    """

    structure: Any
    outputs: tuple[tuple[int | None, ...], ...]

    @property
    def inputs(self) -> list[tf.TensorSpec]:
        """Specs of what it takes."""
        return tf.nest.flatten(self.structure)

    @property
    def input_shapes(self) -> list[tuple[int | None, ...]]:
        """Shapes of what it takes, (batch, ...)."""
        return [tuple(spec.shape) for spec in self.inputs]

    @property
    def batch(self) -> int | None:
        """How many images it takes at a time; None for any number."""
        return self.input_shapes[0][0]

    @property
    def sample_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of what it takes for one image."""
        return [tuple(spec.shape[1:]) for spec in self.inputs]

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(height, width, channels) of a model of one image, None of any other."""
        shapes = self.sample_shapes
        return shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None

    def call(self, model: keras.Model, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the model gives for `inputs`, eagerly."""
        arguments = [tf.constant(values, spec.dtype) for values, spec in zip(inputs, self.inputs)]
        outputs = model(tf.nest.pack_sequence_as(self.structure, arguments), training=False)
        return [output.numpy() for output in tf.nest.flatten(outputs)]

    def trace(self, model: keras.Model) -> Any:
        """The model as a function with a graph, as it is when not trained; it can be pruned."""
        # Without `training`, random layers would keep a way to their random states.
        return tf.compat.v1.wrap_function(
            lambda inputs: model(inputs, training=False), [self.structure]
        )

    def tensors_of(self, graph: Graph) -> tuple[list[int], list[int]]:
        """The numbers of a file's inputs and outputs, in this model's order.

        Raises:
            ValueError: the file takes or gives something else.
        """
        # LCE orders them by names of its own making; the file's signature keeps Keras's.
        inputs, outputs = list(graph.inputs), list(graph.outputs)
        names = [spec.name for spec in self.inputs]
        if len(inputs) > 1 and set(names) == graph.input_names.keys():
            inputs = [graph.input_names[name] for name in names]
        if len(outputs) > 1 and len(graph.output_names) == len(outputs):
            outputs = [graph.output_names[name] for name in sorted(graph.output_names, key=_place)]
        for what, numbers, shapes in (
            ("take", inputs, self.input_shapes),
            ("give", outputs, list(self.outputs)),
        ):
            of_file = [graph.tensors[number].shape for number in numbers]
            if [shape[1:] for shape in of_file] != [shape[1:] for shape in shapes]:
                raise ValueError(
                    f"The file is not one of this model: they must {what} the same shapes. "
                    f"Received: {_listed(of_file)} and, of Keras, {_listed(shapes)}."
                )
        return inputs, outputs


def _place(name: str) -> tuple[int, str]:
    """Where among the outputs of a model a name is: TensorFlow counts those without a name."""
    numbered = re.fullmatch(r"output_(\d+)", name)
    return (int(numbered[1]), "") if numbered else (0, name)


def _listed(shapes: Sequence[tuple[int | None, ...]]) -> str:
    return ", ".join(map(str, shapes))


def of(model: keras.Model) -> Signature:
    """What a model takes and gives.

    Raises:
        ValueError: it does not know what it takes, or gives something that has no row for each
            image.
    """
    signature = _of(model)
    for number, shape in enumerate(signature.outputs):
        # Where the model takes any number of images, the file takes one, and what is made of all of
        # them is another thing.
        if not shape or (signature.batch is None and shape[0] is not None):
            names = getattr(model, "output_names", None) or []
            name = f"'{names[number]}'" if number < len(names) else f"{number}"
            raise ValueError(
                "`model` must give tensors (batch, ...), a row for each image. Leave out what all "
                "images share, or reduce it over other axes than the first. Received: output "
                f"{name} of shape {shape}."
            )
    return signature


def _of(model: keras.Model) -> Signature:
    if isinstance(model, keras.Sequential) and model.inputs:
        structure: Any = _spec(model.inputs[0])
        if structure.name == f"{model.layers[0].name}_input":
            structure = _of_any_batch(model, structure)
        outputs = tuple(model.output.shape)
        # One that was saved may still say the number that `_of_any_batch` leaves out.
        if outputs[:1] == (model.inputs[0].shape[0],):
            outputs = (structure.shape[0], *outputs[1:])
        return Signature(structure, (outputs,))
    if model.inputs:
        specs = [_spec(tensor) for tensor in model.inputs]
        structure = specs[0] if len(specs) == 1 else specs
        return Signature(structure, tuple(tuple(tensor.shape) for tensor in model.outputs))
    saved = model.save_spec()
    if saved is None:
        raise ValueError(
            "`model` must know its input: call it once on a batch, or wrap it, "
            "keras.Model(inputs, model(inputs)) with inputs = keras.Input(shape). A sequential "
            f"one can start with keras.Input. Received: {model.name}, which is not built."
        )
    arguments, _ = saved
    structure = arguments[0]
    outputs = Signature(structure, ()).trace(model).structured_outputs
    return Signature(structure, tuple(tuple(o.shape) for o in tf.nest.flatten(outputs)))


def _spec(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)


def _of_any_batch(model: keras.Sequential, spec: tf.TensorSpec) -> tf.TensorSpec:
    """The spec of a sequential model that was given no Input.

    It takes its shape, the number of images included, from what it was first called with, and
    forgets that number as soon as it is called with another.
    """
    batch, *shape = spec.shape
    if batch is None:
        return spec
    model(tf.zeros((2 if batch == 1 else 1, *shape), spec.dtype))
    return tf.TensorSpec((None, *shape), spec.dtype, spec.name)
