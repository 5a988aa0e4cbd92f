r"""1-bit layers for Keras 3, with Larq's argument names.

Larq works with legacy Keras only, and so does what of this package builds on it. Here are the
paper's two quantizers and the layer that takes them, for Keras 3 with the backend TensorFlow.
`bireal_keras.export.convert` packs models that are made of them.

    import keras
    from bireal_keras.keras3 import ApproxSign, MagnitudeAwareSign, QuantConv2D

    QuantConv2D(64, 3, input_quantizer=ApproxSign(), kernel_quantizer=MagnitudeAwareSign())
"""

from collections.abc import Callable
from numbers import Real
from typing import Any

try:
    import keras
    from keras import ops
except ModuleNotFoundError as error:
    raise ImportError(
        "bireal_keras.keras3 needs Keras 3, which is not installed: pip install 'keras>=3'."
        if error.name == "keras"
        else "bireal_keras.keras3 needs Keras 3 with the backend TensorFlow: set "
        "KERAS_BACKEND=tensorflow before Python starts. Keras cannot be imported with the backend "
        f"that is set: {error}."
    ) from error

if not keras.__version__.startswith("3.") or keras.backend.backend() != "tensorflow":
    raise ImportError(
        "bireal_keras.keras3 needs Keras 3 with the backend TensorFlow, whose converter writes the "
        "file: set KERAS_BACKEND=tensorflow before Python starts. Found: Keras "
        f"{keras.__version__} with the backend {keras.backend.backend()}."
    )

__all__ = ["ApproxSign", "MagnitudeAwareSign", "QuantConv2D"]


def _sign(x: Any) -> Any:
    """-1 or +1, which is what 0 and -0 give; a NaN stays one."""
    return ops.sign(ops.sign(x) + 0.1)


@ops.custom_gradient
def _approx_sign(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    def grad(dy: Any) -> Any:
        magnitude = ops.abs(x)
        return ops.where(magnitude <= 1, (2 - 2 * magnitude) * dy, ops.zeros_like(dy))

    return _sign(x), grad


@keras.saving.register_keras_serializable("bireal_keras")
class ApproxSign(keras.layers.Layer):
    r"""Sign with the gradient of a piecewise quadratic: Bi-Real Net's activation quantizer.

    Forward: +1 if x >= 0 else -1. Backward:

        dq/dx = 2 - 2|x| if |x| <= 1 else 0

    Source: Liu et al., "Bi-Real Net", ECCV 2018 (arXiv:1808.00278), Section 3.3. The same as
    `bireal_keras.quantizers.ApproxSign` for legacy Keras.

    Call arguments and result: a floating-point tensor of any shape; the same shape and dtype,
    filled with -1 and +1.
    """

    def call(self, inputs: Any) -> Any:
        return _approx_sign(inputs)


@keras.saving.register_keras_serializable("bireal_keras")
class MagnitudeAwareSign(keras.layers.Layer):
    r"""Sign scaled by each filter's mean magnitude: Bi-Real Net's weight quantizer.

    Forward, with s the mean of |w| over all axes but the last, which is not differentiated:
    s * (+1 if w >= 0 else -1). Backward:

        dq/dw = s * 1{|w| <= clip_value}     (scale_gradient=True, the paper)
        dq/dw =     1{|w| <= clip_value}     (scale_gradient=False, the authors' code)

    Source: Liu et al., "Bi-Real Net", ECCV 2018 (arXiv:1808.00278), Section 3.3. The same as
    `bireal_keras.quantizers.MagnitudeAwareSign` for legacy Keras.

    Args:
        clip_value: weights of larger magnitude get no gradient; None lets every weight have its
            gradient.
        scale_gradient: whether the gradient carries the factor s.

    Call arguments and result: a floating-point kernel whose last axis counts the output filters;
    the same shape and dtype.

    Raises:
        ValueError: `clip_value` is not a positive number or None.
    """

    def __init__(
        self, clip_value: float | None = 1.0, scale_gradient: bool = True, **kwargs: Any
    ) -> None:
        if clip_value is not None and not (
            isinstance(clip_value, Real) and not isinstance(clip_value, bool) and clip_value > 0
        ):
            raise ValueError(
                "`clip_value` must be a positive number or None. "
                f"Received: clip_value={clip_value!r}."
            )
        super().__init__(**kwargs)
        self.clip_value = clip_value
        self.scale_gradient = scale_gradient

    def call(self, inputs: Any) -> Any:
        scale = ops.stop_gradient(
            ops.mean(ops.abs(inputs), axis=tuple(range(len(inputs.shape) - 1)))
        )
        passed = inputs
        if self.clip_value is not None:
            passed = ops.clip(inputs, -self.clip_value, self.clip_value)
        # This is 0 and has the gradient. (A custom gradient of TensorFlow's takes no variables.)
        straight_through = passed - ops.stop_gradient(passed)
        if self.scale_gradient:
            straight_through = scale * straight_through
        return ops.stop_gradient(scale * _sign(inputs)) + straight_through

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "clip_value": self.clip_value,
            "scale_gradient": self.scale_gradient,
        }


@keras.saving.register_keras_serializable("bireal_keras")
class QuantConv2D(keras.layers.Conv2D):
    """A convolution of a quantized input by a quantized kernel, as Larq's `QuantConv2D`.

    Args:
        filters: how many there are.
        kernel_size: height and width, or one number for both.
        input_quantizer: applied to the input, a layer or another function of a tensor; None leaves
            it as it is.
        kernel_quantizer: likewise, to the kernel.
        pad_values: what `padding="same"` surrounds the quantized input with, 0 or 1.
        **kwargs: as for `keras.layers.Conv2D`.

    Raises:
        ValueError: `pad_values` is neither 0 nor 1, or a size to be padded is not known.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        input_quantizer: Callable[[Any], Any] | None = None,
        kernel_quantizer: Callable[[Any], Any] | None = None,
        pad_values: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if pad_values not in (0, 1):
            raise ValueError(f"`pad_values` must be 0 or 1. Received: pad_values={pad_values!r}.")
        super().__init__(filters, kernel_size, **kwargs)
        self.input_quantizer = _revived(input_quantizer)
        self.kernel_quantizer = _revived(kernel_quantizer)
        self.pad_values = float(pad_values)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if self.input_quantizer is not None:
            inputs = self.input_quantizer(inputs)
        if self.kernel_quantizer is not None:
            kernel = self.kernel_quantizer(kernel)
        padding = self.padding
        if padding == "same" and self.pad_values:
            inputs = ops.pad(inputs, self._sides(inputs.shape), constant_values=self.pad_values)
            padding = "valid"
        return ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def _sides(self, shape: tuple[int | None, ...]) -> list[tuple[int, int]]:
        """How many values `padding="same"` adds before and after each axis."""
        first = 1 if self.data_format == "channels_last" else 2
        sides = [(0, 0)] * 4
        for index in (0, 1):
            size, stride = shape[first + index], self.strides[index]
            if size is None:
                raise ValueError(
                    "`pad_values=1` needs an input of a fixed size. Received an input of shape "
                    f"{tuple(shape)} in {self.name}."
                )
            reach = (self.kernel_size[index] - 1) * self.dilation_rate[index] + 1
            missing = max(0, (-(-size // stride) - 1) * stride + reach - size)
            sides[first + index] = (missing // 2, missing - missing // 2)
        return sides

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "input_quantizer": serialize(self.input_quantizer),
            "kernel_quantizer": serialize(self.kernel_quantizer),
            "pad_values": self.pad_values,
        }


def _revived(quantizer: Any) -> Any:
    """A quantizer, of its config where a model is being loaded."""
    if isinstance(quantizer, dict):
        return keras.saving.deserialize_keras_object(quantizer)
    return quantizer
