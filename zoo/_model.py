"""What every model of the zoo shares: arguments and their checks, stem, head, weights."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import h5py
import numpy as np

from bireal_keras import _hdf5, blocks
from bireal_keras._keras import keras, tf
from bireal_keras._safe_load import checked_weights
from bireal_keras.zoo import _registry

_Arguments = ParamSpec("_Arguments")
_Features = TypeVar("_Features")


def with_arguments_of(
    template: Callable[_Arguments, keras.Model], **defaults: Any
) -> Callable[[Callable[..., keras.Model]], Callable[_Arguments, keras.Model]]:
    """Gives a function the keyword arguments of another: names, types and defaults.

    `help` and editors show them, and the decorated function gets them all, so that a variant
    has to say only what is different about it; `defaults` are those that differ.
    """
    signature = inspect.signature(template)
    signature = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(name, parameter.default))
            for name, parameter in signature.parameters.items()
        ]
    )

    def decorate(function: Callable[..., keras.Model]) -> Callable[_Arguments, keras.Model]:
        @functools.wraps(function)
        def model(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> keras.Model:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return function(**bound.arguments)

        model.__signature__ = signature  # type: ignore[attr-defined]
        return model

    return decorate


class Stem(NamedTuple):
    """What makes the first features of an image.

    Attributes:
        build: (images, filters, padding=) -> features.
        default_size: height and width of the input in pixels where nobody gives them.
        min_size: those of an input that the network leaves as 1x1.
    """

    build: Callable[..., tf.Tensor]
    default_size: int
    min_size: int


# Those that a user can choose by name. What "imagenet" is depends on the family.
STEMS = {
    "imagenet": Stem(blocks.imagenet_stem, 224, 32),
    "cheap": Stem(blocks.cheap_stem, 224, 32),
    "cifar": Stem(blocks.cifar_stem, 32, 8),
}


def stages(
    x: _Features, block: Callable[..., _Features], blocks_per_stage: tuple[int, ...], width: int
) -> _Features:
    """The stages of a ResNet: each but the first halves the map and doubles the channels.

    Args:
        x: what the first block takes.
        block: (x, filters, strides=, name=) -> what the next block takes.
        blocks_per_stage: how many blocks.
        width: filters of the first stage.
    """
    for stage, count in enumerate(blocks_per_stage):
        for index in range(count):
            x = block(
                x,
                width * 2**stage,
                strides=2 if stage > 0 and index == 0 else 1,
                name=f"stage{stage + 1}_block{index + 1}",
            )
    return x


def pooled_head(x: tf.Tensor, num_classes: int) -> tf.Tensor:
    """A ResNet's head: global average pooling, a real fully connected layer and softmax."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dense(num_classes, kernel_initializer="glorot_normal", name="head_fc")(x)
    # Probabilities stay float32 under a mixed precision policy.
    return keras.layers.Activation("softmax", dtype="float32", name="head_softmax")(x)


def classifier(
    name: str,
    body: Callable[[tf.Tensor], tf.Tensor],
    *,
    input_shape: tuple[int | None, ...] | None,
    input_tensor: tf.Tensor | None,
    weights: str | os.PathLike[str] | None,
    include_top: bool,
    num_classes: int,
    width: int,
    stem: str,
    padding: str,
    stems: Mapping[str, Stem] = STEMS,
    head: Callable[[tf.Tensor, int], tf.Tensor] = pooled_head,
) -> keras.Model:
    """A model of the zoo: stem, `body` and, with `include_top`, head.

    All arguments but these, and the errors, are those of `BiRealNet18`.

    Args:
        name: of the model.
        body: from the stem's features to the last ones; it is called once the arguments are
            checked.
        stems: what `stem` can name.
        head: from the last features and the number of classes to probabilities.
    """
    if stem not in stems:
        raise ValueError(f"`stem` must be one of {sorted(stems)}. Received: stem={stem!r}.")
    check_positive_int(num_classes=num_classes, width=width)
    build_stem, default_size, min_size = stems[stem]
    inputs = input_layer(
        input_shape,
        input_tensor,
        default_size=default_size,
        min_size=min_size,
        include_top=include_top,
        padding=padding,
    )

    x = body(build_stem(inputs, width, padding=padding))
    if include_top:
        x = head(x, num_classes)

    if input_tensor is not None:
        inputs = keras.utils.get_source_inputs(input_tensor)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model


def input_layer(
    input_shape: tuple[int | None, ...] | None,
    input_tensor: tf.Tensor | None,
    *,
    default_size: int,
    min_size: int,
    include_top: bool,
    padding: str,
) -> tf.Tensor:
    """The tensor a model starts from, after checking what the caller asked for.

    Args:
        input_shape: (height, width, 3) or None: `default_size` squared with the
            classifier, any size without.
        input_tensor: a Keras tensor to build on, or None.
        default_size: height and width in pixels when none is given.
        min_size: the smallest height and width that leave something to pool.
        include_top: whether there is a classifier, which needs a known size.
        padding: "torch" needs a known size, too.

    Raises:
        ValueError: not three channels, too small, unknown size where it has to be known, or
            `input_shape` and `input_tensor` that contradict each other.
    """
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` must be a Keras tensor, the output of a layer or of "
                f"keras.Input. Received: input_tensor={input_tensor!r}."
            )
        actual = tuple(input_tensor.shape[1:])
        if input_shape not in (None, actual, list(actual)):
            raise ValueError(
                "`input_shape` must equal the shape of `input_tensor`, "
                f"{actual}. Received: input_shape={input_shape!r}."
            )
        input_shape = actual
    elif input_shape is None:
        size = default_size if include_top else None
        input_shape = (size, size, 3)

    if not _is_image_shape(input_shape):
        raise ValueError(
            "`input_shape` must be (height, width, 3): channels last, three of them "
            f"(repeat a grey channel). Received: input_shape={input_shape!r}."
        )
    input_shape = tuple(input_shape)
    for size in input_shape[:2]:
        if size is None:
            if include_top or padding == "torch":
                raise ValueError(
                    "`input_shape` needs a height and a width when include_top=True or "
                    f"padding='torch'. Received: input_shape={input_shape}."
                )
        elif size < min_size:
            raise ValueError(
                f"`input_shape` must be at least ({min_size}, {min_size}, 3), or the maps "
                f"pool to nothing. Received: input_shape={input_shape}."
            )
    return input_tensor if input_tensor is not None else keras.Input(input_shape)


def _is_image_shape(shape: object) -> bool:
    return (
        isinstance(shape, (tuple, list, tf.TensorShape))
        and len(shape) == 3
        and shape[-1] == 3
        and all(size is None or isinstance(size, (int, np.integer)) for size in shape[:2])
    )


def check_positive_int(**arguments: int) -> None:
    """Raises a ValueError naming the first argument that is not a positive int."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"`{name}` must be a positive int. Received: {name}={value!r}.")


def load_weights(model: keras.Model, weights: str | os.PathLike[str]) -> None:
    """Loads a weights file that `model.save_weights` or `model.save` wrote, or nothing.

    Raises:
        ValueError: the file does not exist, cannot be read, or its arrays have other
            shapes than the model's, which then keeps the weights it had.
    """
    if not isinstance(weights, (str, os.PathLike)) or not os.path.isfile(weights):
        names = _registry.weight_names(model.name)
        published = f", or {' or '.join(map(repr, names))} for {model.name}" if names else ""
        raise ValueError(
            f"`weights` must be None or the path of a weights file{published}. "
            f"Received: weights={weights!r}, which is not a file."
        )
    path = os.fspath(weights)
    before = model.get_weights()
    try:
        with checked_weights(path) as (checked, stored):
            _check_size(stored, before)
            _check_count(checked, before)
            model.load_weights(checked)
    except Exception as error:  # A damaged HDF5 file can raise nearly anything.
        model.set_weights(before)
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`weights` must fit {model.name} with the output shape {model.output_shape}: same "
            "num_classes, width, stem and include_top as the model that saved them. "
            f"Received: weights={path!r}. {reason}"
        ) from error


def _check_count(path: Path, weights: list[np.ndarray]) -> None:
    """Raises a ValueError if a file has more weights than the model, or fewer.

    Keras looks for the weights of each layer by the name of its class and its place among those
    of that class, and says nothing of what is left over: a ReActNet's, say, in a Bi-Real Net.
    """
    with h5py.File(path, "r") as file:
        count = _hdf5.count_weights(file)
    if count not in (None, len(weights)):
        raise ValueError(f"It holds {count} arrays of weights; the model has {len(weights)}.")


def _check_size(stored: int, weights: list[np.ndarray]) -> None:
    """Raises a ValueError if a file holds far more than the model could need.

    Keras reads all arrays before it looks at their shapes, and a small file can contain large
    ones. Beside the weights there may be an optimizer's two or three arrays for each.
    """
    needed = sum(weight.nbytes for weight in weights)
    if stored > 10 * needed:
        raise ValueError(
            f"It holds arrays of {stored:,} bytes; the model's weights take {needed:,}."
        )
