"""Why a layer stays in float, and what to write instead."""

from typing import NamedTuple


class Reason(NamedTuple):
    """Why a layer stays in float.

    Attributes:
        code: a word that stays the same, for programs.
        text: a sentence for people, with the remedy.
    """

    code: str
    text: str


_SPELLINGS = (
    "Write the sign as x >= 0: ste_sign or ApproxSign in Keras, (x >= 0).float() * 2 - 1 in PyTorch"
)

TF_SIGN = Reason(
    "tf_sign",
    "Its input's sign gives 0 for 0, as tf.sign and torch.sign do: three values. "
    f"{_SPELLINGS}; or pass zero_sign='+1' if no zero occurs.",
)
TERNARY = Reason(
    "ternary",
    "Its input is the sign of a sum of signs, and takes the three values -1, 0 and +1. "
    f"{_SPELLINGS}, and train again.",
)
ZERO_ONE = Reason(
    "zero_one",
    "Its input is the sign of what is never negative: 0 or +1, not -1 or +1. "
    f"{_SPELLINGS}, of the value before the ReLU, and train again.",
)
NOT_A_SIGN = Reason(
    "unknown_sign",
    f"Its filters are 1-bit, but its input is not a sign. {_SPELLINGS}, right before the layer.",
)
SCALED = Reason(
    "scaled",
    "Its input's sign is multiplied, or added to, by more than one number before the layer. "
    "Multiply after the layer, where constants for each channel cost nothing.",
)
DYNAMIC = Reason(
    "dynamic",
    "The size of what it reads or writes is not fixed in the file. Convert the model with a fixed "
    "input size and, where that is not enough, a batch of 1.",
)
COMPUTED_KERNEL = Reason(
    "kernel_values",
    "Its kernel is computed while the model runs. Convert the model in inference mode.",
)
SHARED_KERNELS = Reason(
    "shared_kernels",
    "All kernels together, each counted once for every layer that reads it, are many times as "
    "large as the file. Let fewer layers share a kernel, or compute fewer kernels of constants.",
)
PADS_CHANNELS = Reason(
    "padded", "Padding adds channels between the sign and the layer. Pad height and width only."
)
PADS_BOTH = Reason("padded", "It pads with zeros and with ones. Pad once, with one of them.")
BATCH_SPACE = Reason(
    "dilation",
    "Its dilation is written with SPACE_TO_BATCH_ND and something else than BATCH_TO_SPACE_ND "
    "follows. Let nothing but the layer itself come between the two.",
)
ACTIVATION = Reason("activation", "It applies an activation that LiteRT's kernels do not have.")


def values(table: list[float]) -> Reason:
    """Its input takes these values, below, at and above the threshold."""
    shown = ", ".join(f"{value:g}" for value in dict.fromkeys(table))
    code = "zero_one" if set(table) == {0.0, 1.0} else "more_bits"
    return Reason(
        code,
        f"Its input takes the values {shown}, and not -a and +a. {_SPELLINGS}, and train again.",
    )


def padded_values(low: float, high: float) -> Reason:
    """Its input takes these two values, and is padded with another than `high`."""
    code = "zero_one" if {low, high} == {0.0, 1.0} else "more_bits"
    return Reason(
        code,
        f"Its input takes the values {low:g}, {high:g}, and not -a and +a, and it pads with "
        f"something else than {high:g}. {_SPELLINGS}, and train again.",
    )


def moved(operator: str) -> Reason:
    """This operator lies between a sign and the layer."""
    return Reason(
        "pooled" if "POOL" in operator else "moved",
        f"{operator} lies between the sign and the layer. Do that first, and let the layer take "
        "the sign.",
    )


def pad_values(value: float) -> Reason:
    """It pads with `value`, as a multiple of the magnitude of its input."""
    return Reason(
        "pad_values",
        f"It pads with {value:g} times the magnitude of its input; 0 and +1 can be packed only. "
        "Set pad_values to 0 or 1 and train again.",
    )


def padding(before: tuple[int, int], size: tuple[int, int]) -> Reason:
    """It pads with zeros in a way that no operator does."""
    return Reason(
        "padded",
        f"It pads {size[0]}x{size[1]} maps with {before[0]} rows and {before[1]} columns of zeros "
        "first, which is not what padding='same' does. Pad with ones, or as padding='same'.",
    )


def kernel_values(index: int, low: float, high: float) -> Reason:
    """The magnitudes of filter `index` go from `low` to `high`."""
    return Reason(
        "kernel_values",
        f"The magnitudes of filter {index} go from {low:.3g} to {high:.3g}: its kernel is not "
        "1-bit. Use a kernel quantizer that has one magnitude for each filter.",
    )


def zero_weights(index: int, count: int) -> Reason:
    """In filter `index` are `count` weights that are exactly 0."""
    return Reason(
        "zero_weights",
        f"{count} of the weights of filter {index} are exactly 0, which has no sign. Quantize the "
        "kernel with w >= 0, or pass zero_weights='+1' to count them as +1.",
    )


def ternary_kernel(count: int, size: int) -> Reason:
    """`count` of its `size` weights are exactly 0."""
    return Reason(
        "kernel_values",
        f"{count} of its {size} weights are exactly 0: its kernel takes 0, too, and is not 1-bit. "
        "Use a kernel quantizer that gives -s and +s only, and train again.",
    )


def groups(count: int, channels: int) -> Reason:
    """It has `count` groups of `channels` input channels."""
    return Reason(
        "groups",
        f"Each of its {count} groups has {channels} input channels; groups of 32, 64, 96, ... can "
        "be packed only. Use fewer groups.",
    )


def kind(operator: str) -> Reason:
    """There is no 1-bit operator like this one."""
    return Reason(
        "kind", f"There is no 1-bit {operator}. Use a convolution (Conv2D) or a dense layer."
    )
