"""How many values an activation can take before a sign: in theory, and on images.

The paper's argument for the shortcut (Liu et al., ECCV 2018, arXiv:1808.00278): a 1-bit
convolution adds up n = height * width * channels values of -1 and +1, so its output takes
n + 1 values, from -n to n in steps of two, and BatchNormalization leaves it at that. Without a
shortcut, the next sign sees n + 1 values, in every layer. With it, each of them is added to each
value that came along, and the numbers multiply:

    skeleton = [Conv(kernel_size=3, channels=32)] * 2
    values_per_entry(skeleton, shortcuts=False)     # 289, 289
    values_per_entry(skeleton, shortcuts=True)      # 289, 289^2

These are upper bounds. Two things keep a network below: what a floating-point number can hold
(`finite_values`), and that convolution and shortcut read the same activations: the sign of what
the shortcut carries is one of the values that the convolution adds up.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bireal_keras._keras import keras

# Beyond this many bits, a product is no longer written out.
_MAX_BITS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Count:
    """A number of values, of any size.

    Attributes:
        log2: its logarithm.
        exact: the number itself; None if it has more than 65,536 bits.
    """

    log2: float
    exact: int | None

    @classmethod
    def of(cls, number: int) -> "Count":
        """The count of a positive int."""
        return cls(math.log2(number), number)

    def __mul__(self, other: "Count") -> "Count":
        log2 = self.log2 + other.log2
        if self.exact is None or other.exact is None or log2 > _MAX_BITS:
            return Count(log2, None)
        return Count(log2, self.exact * other.exact)

    def __pow__(self, exponent: int) -> "Count":
        log2 = self.log2 * exponent
        if self.exact is None or log2 > _MAX_BITS:
            return Count(log2, None)
        return Count(log2, self.exact**exponent)

    def __str__(self) -> str:
        if self.exact is not None and self.exact < 10**12:
            return f"{self.exact:,}"
        return f"2^{self.log2:,.1f}"


@dataclasses.dataclass(frozen=True)
class Conv:
    """A 1-bit convolution and the shortcut around it.

    Attributes:
        kernel_size: height and width of the kernel.
        channels: of its input.
        shortcut_inputs: how many entries of the input an entry of the shortcut is computed
            from: 1 if it is passed on, 4 * channels for 2x2 average pooling and a real 1x1
            convolution.
    """

    kernel_size: int
    channels: int
    shortcut_inputs: int = 1

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")

    @property
    def values(self) -> int:
        """How many values an output takes: one more than there are products to add up.

        Where the kernel reaches into zero padding there are fewer.
        """
        return self.kernel_size**2 * self.channels + 1


def birealnet(blocks_per_stage: Sequence[int], *, width: int = 64) -> list[Conv]:
    """The 1-bit convolutions of a Bi-Real Net, (4, 4, 4, 4) blocks for 18 layers.

    Stages have `width`, 2, 4, ... times `width` channels; all but the first start with a block
    that halves the map and doubles the channels.
    """
    convs = []
    for stage, count in enumerate(blocks_per_stage):
        channels = width * 2**stage
        convs += [Conv(3, channels)] * count
        if stage > 0:
            narrow = channels // 2
            convs[-count] = Conv(3, narrow, shortcut_inputs=4 * narrow)
    return convs


def values_per_entry(convs: Sequence[Conv], *, shortcuts: bool, start: int = 1) -> list[Count]:
    """How many values an activation can take after each convolution, BatchNormalization and sum.

    Args:
        convs: in the order in which they compute.
        shortcuts: whether each has a real-valued shortcut around it.
        start: how many values an entry of the input takes, which the first shortcut passes on;
            1 counts what the convolutions add.

    Returns:
        One count for each convolution, what the sign after it sees: an upper bound, for real
        numbers without rounding.

    Raises:
        ValueError: `start` is not positive.
    """
    if start < 1:
        raise ValueError(f"`start` must be positive. Received: start={start}.")
    counts = []
    count = Count.of(start)
    for conv in convs:
        count = (
            Count.of(conv.values) * count**conv.shortcut_inputs
            if shortcuts
            else Count.of(conv.values)
        )
        counts.append(count)
    return counts


def finite_values(dtype: Any = np.float32) -> int:
    """How many finite numbers an IEEE floating-point type holds, 0 and -0 counted as one.

    For float32, 2 signs * 255 exponents * 2^23 fractions - 1 = 4,278,190,079 of its 2^32
    patterns; the others are -0, the infinities and the NaNs.
    """
    info = np.finfo(dtype)
    return 2 * (2**info.nexp - 1) * 2**info.nmant - 1


def distinct_values(
    model: "keras.Model",
    images: np.ndarray,
    *,
    entries: int = 256,
    batch_size: int = 50,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Counts the values that activations take before each sign, on images.

    Args:
        model: of legacy Keras, with layers that have a 1-bit `input_quantizer`.
        images: (number, height, width, channels), preprocessed as for training.
        entries: how many activations of each layer to look at, drawn at random; all, if it has
            no more.
        batch_size: how many images to compute at a time.
        tolerance: two values closer than this share of the largest magnitude at the same entry
            are one. With a scaled kernel, as `MagnitudeAwareSign` gives, equal sums come out
            different in their last digits.
        seed: of the draw.

    Returns:
        By the name of the layer, in the order in which they compute: int64 (entries,), for each
        of them how many values it took; the number of images at most.

    Raises:
        ValueError: the model has no such layer.
    """
    # Here, so that the formulas above do without TensorFlow.
    from bireal_keras import _keras_model, _layer_calls

    layers = [
        layer for layer in _layer_calls.layers_of(model) if _keras_model.has_one_bit_input(layer)
    ]
    if not layers:
        raise ValueError(
            "`model` must have layers with a 1-bit `input_quantizer`. "
            f"Received: {model.name}, which has none."
        )
    rng = np.random.default_rng(seed)
    chosen: dict[str, np.ndarray] = {}
    seen: dict[str, list[np.ndarray]] = {}

    def on_call(layer: "keras.layers.Layer", inputs: Any, _: Any) -> None:
        values = inputs.numpy().reshape(len(inputs), -1)
        if layer.name not in chosen:
            size = values.shape[1]
            chosen[layer.name] = np.sort(rng.choice(size, min(entries, size), replace=False))
            seen[layer.name] = []
        seen[layer.name].append(values[:, chosen[layer.name]])

    with _layer_calls.watched(layers, on_call):
        for first in range(0, len(images), batch_size):
            model(images[first : first + batch_size])
    return {name: _count(np.concatenate(values), tolerance) for name, values in seen.items()}


def _count(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Distinct values in each column."""
    gaps = np.diff(np.sort(values, axis=0), axis=0)
    return 1 + (gaps > tolerance * np.abs(values).max(axis=0)).sum(axis=0)
