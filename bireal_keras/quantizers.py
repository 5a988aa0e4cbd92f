r"""Bi-Real Net's two quantizers, on Larq's quantizer interface.

Both binarize with the sign convention of the whole project (and of Larq and Larq
Compute Engine): `x >= 0 -> +1`, `x < 0 -> -1`; -0.0 is +1. A NaN stays a NaN, so that a
diverged training run shows.

They differ from larq.quantizers' classes of the same names in what they are registered
as: `"bireal_keras>ApproxSign"` and `"bireal_keras>MagnitudeAwareSign"`. Larq's aliases
(`"approx_sign"`, `"magnitude_aware_sign"`) still mean Larq's classes.

    lq.layers.QuantConv2D(
        64, 3,
        input_quantizer=ApproxSign(),
        kernel_quantizer=MagnitudeAwareSign(),
        kernel_constraint="weight_clip",
    )
"""

import importlib
from numbers import Real
from typing import Any

from bireal_keras._keras import keras, lq, tf

_FLIP_RATIO = "flip_ratio"


def _register(cls: type) -> type:
    """Registers a class with Keras as `"bireal_keras>Name"`.

    The HDF5 format stores, and looks up, the bare class name instead, under which it would
    find Larq's class: so the bare name has to differ, too.
    """
    keras.utils.register_keras_serializable(package="bireal_keras")(cls)
    cls.__name__ = f"BiReal{cls.__name__}"
    keras.utils.get_custom_objects()[cls.__name__] = cls
    return cls


class _BinaryQuantizer(lq.quantizers.Quantizer):
    """A 1-bit quantizer that can report how many signs flip between two training steps.

    Args:
        metrics: names of the metrics to report; Larq knows `"flip_ratio"`. None takes
            those of the surrounding `lq.context.metrics_scope`.

    Flips can only be counted in a tensor that keeps its shape: a kernel. Activations,
    with their unknown batch size, report nothing.
    """

    precision = 1

    def __init__(self, *, metrics: list[str] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if metrics is not None and not set(metrics) <= {_FLIP_RATIO}:
            raise ValueError(
                f"`metrics` must be None, [] or [{_FLIP_RATIO!r}]. Received: metrics={metrics!r}."
            )
        self._metric_names = metrics
        self._scope_at_construction = set(lq.context.get_training_metrics())
        self._flip_ratio: keras.metrics.Metric | None = None

    def build(self, input_shape: tf.TensorShape) -> None:
        input_shape = tf.TensorShape(input_shape)
        names = self._metric_names
        if names is None:
            # A model without input shape is built later, maybe after the scope has ended.
            names = self._scope_at_construction | lq.context.get_training_metrics()
        if _FLIP_RATIO in names and input_shape.is_fully_defined():
            self._flip_ratio = lq.metrics.FlipRatio(name=f"{_FLIP_RATIO}/{self.name}")
            self._flip_ratio.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = self._binarize(inputs)
        if self._flip_ratio is not None:
            # FlipRatio keeps integers, as which scaled outputs would all become 0: it gets signs.
            self.add_metric(self._flip_ratio(lq.math.sign(inputs)))
        return outputs

    def _binarize(self, inputs: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        # The metric's memory of the last signs is not part of the model.
        return []

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "metrics": self._metric_names}


@tf.custom_gradient
def _approx_sign(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    def grad(dy: tf.Tensor) -> tf.Tensor:
        abs_x = tf.abs(x)
        return tf.where(abs_x <= 1, (2 - 2 * abs_x) * dy, tf.zeros_like(dy))

    return lq.math.sign(x), grad


@_register
class ApproxSign(_BinaryQuantizer):
    r"""Sign with the gradient of a piecewise quadratic: Bi-Real Net's activation quantizer.

    Forward:

        q(x) = +1 if x >= 0 else -1

    Backward, the derivative of the quadratic that approximates sign most closely
    (F(x) = 2x + x^2 on [-1, 0), 2x - x^2 on [0, 1)):

        dq/dx = 2 - 2|x| if |x| <= 1 else 0

    Source: Liu et al., "Bi-Real Net", ECCV 2018 (arXiv:1808.00278), Section 3.3.

    Args:
        metrics: see `lq.context.metrics_scope`; `["flip_ratio"]`, `[]` or None (what the
            surrounding scope says).

    Call arguments and result: a floating-point tensor of any shape; the same shape and
    dtype comes back, filled with -1 and +1.
    """

    def _binarize(self, inputs: tf.Tensor) -> tf.Tensor:
        return _approx_sign(inputs)


@_register
class MagnitudeAwareSign(_BinaryQuantizer):
    r"""Sign scaled by each filter's mean magnitude: Bi-Real Net's weight quantizer.

    Forward, with s the mean of |w| over all axes but the last (one number for each
    output filter), which is not differentiated:

        q(w) = s * (+1 if w >= 0 else -1)

    Backward:

        dq/dw = s * 1{|w| <= clip_value}     (scale_gradient=True, the paper)
        dq/dw =     1{|w| <= clip_value}     (scale_gradient=False)

    The paper's formula (Liu et al., ECCV 2018, arXiv:1808.00278, Section 3.3) has the
    factor s; the authors' PyTorch code leaves it out. SGD sees the difference, Adam
    hardly does.

    A filter of zeros has s = 0: its output and, with the factor, its gradient are 0.

    Args:
        clip_value: weights of larger magnitude get no gradient; None lets every weight
            have its gradient.
        scale_gradient: whether the gradient carries the factor s.
        metrics: see `lq.context.metrics_scope`; `["flip_ratio"]`, `[]` or None (what the
            surrounding scope says).

    Call arguments and result: a floating-point kernel whose last axis counts the output
    filters, as `QuantConv2D`'s (height, width, in, out); the same shape and dtype.

    Raises:
        ValueError: `clip_value` is not a positive number or None.
    """

    def __init__(
        self,
        clip_value: float | None = 1.0,
        scale_gradient: bool = True,
        *,
        metrics: list[str] | None = None,
        **kwargs: Any,
    ):
        if clip_value is not None and not (
            isinstance(clip_value, Real) and not isinstance(clip_value, bool) and clip_value > 0
        ):
            raise ValueError(
                "`clip_value` must be a positive number or None. "
                f"Received: clip_value={clip_value!r}."
            )
        super().__init__(metrics=metrics, **kwargs)
        self.clip_value = clip_value
        self.scale_gradient = scale_gradient

    def _binarize(self, inputs: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def magnitude_aware_sign(w: tf.Tensor) -> tuple[tf.Tensor, Any]:
            scale = tf.reduce_mean(tf.abs(w), axis=list(range(len(w.shape) - 1)))

            def grad(dy: tf.Tensor) -> tf.Tensor:
                dw = scale * dy if self.scale_gradient else dy
                if self.clip_value is None:
                    return dw
                return tf.where(tf.abs(w) <= self.clip_value, dw, tf.zeros_like(dw))

            return scale * lq.math.sign(w), grad

        return magnitude_aware_sign(inputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "clip_value": self.clip_value,
            "scale_gradient": self.scale_gradient,
        }


# See the end of `bireal_keras._keras`.
importlib.import_module("bireal_keras.blocks")
