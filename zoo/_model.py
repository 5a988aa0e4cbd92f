"""What every model function of the zoo shares: checking arguments, loading weights."""

import os

import numpy as np

from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _published


def input_layer(
    input_shape: tuple[int | None, ...] | None,
    input_tensor: tf.Tensor | None,
    *,
    default_size: int,
    min_size: int,
    include_top: bool,
) -> tf.Tensor:
    """The tensor a model starts from, after checking what the caller asked for.

    Args:
        input_shape: (height, width, 3) or None: `default_size` squared with the
            classifier, any size without.
        input_tensor: a Keras tensor to build on, or None.
        default_size: height and width in pixels when none is given.
        min_size: the smallest height and width that leave something to pool.
        include_top: whether the size must be known.

    Raises:
        ValueError: not three channels, too small, unknown size with `include_top`, or
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
            if include_top:
                raise ValueError(
                    "`input_shape` needs a height and a width when include_top=True. "
                    f"Received: input_shape={input_shape}."
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
        names = _published.names(model.name)
        published = f", or {' or '.join(map(repr, names))} for {model.name}" if names else ""
        raise ValueError(
            f"`weights` must be None or the path of a weights file{published}. "
            f"Received: weights={weights!r}, which is no file."
        )
    path = os.fspath(weights)
    before = model.get_weights()
    try:
        model.load_weights(path)
    except Exception as error:  # a damaged HDF5 file can raise nearly anything
        model.set_weights(before)
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`weights` must fit {model.name} with the output shape {model.output_shape}: same "
            "num_classes, width, stem and include_top as the model that saved them. "
            f"Received: weights={path!r}. {reason}"
        ) from error
