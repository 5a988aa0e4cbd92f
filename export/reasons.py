"""Why a layer stays in float, or leaves operators after it, and what to do about it.

The keys stand in reports and in their JSON; docs/export.md explains each with an example.
"""

# Layers that nobody meant to be 1-bit.
REAL = "real"
WEIGHTS_ONLY = "weights_only"
INPUT_ONLY = "input_only"
MORE_BITS = "more_bits"
TERNARY = "ternary"
NOT_MEANT = (REAL, WEIGHTS_ONLY, INPUT_ONLY, MORE_BITS, TERNARY)
# Signs that Larq Compute Engine (LCE) does not see.
TF_SIGN = "tf_sign"
WHERE = "where"
CAST = "cast"
ZERO_ONE = "zero_one"
UNKNOWN_SIGN = "unknown_sign"
HIDDEN_SIGN = "hidden_sign"
# What is said of the values that a layer reads, whatever computes them.
OF_VALUES = (ZERO_ONE, HIDDEN_SIGN)
# Signs that something separates from the convolution.
PAD_VALUES = "pad_values"
PADDED = "padded"
SCALED = "scaled"
MOVED = "moved"
POOLED = "pooled"
# Kernels and layers for which LCE has no operator.
KERNEL_VALUES = "kernel_values"
GROUPS = "groups"
KIND = "kind"
CHANNELS_FIRST = "channels_first"
UNKNOWN = "unknown"
NO_LAYER = "no_layer"
# What a bit-packed layer's user should know.
FAKE_QUANT = "fake_quant"
GROUPED = "grouped"
WARNINGS = (FAKE_QUANT, GROUPED)
# What stays an operator of its own after a convolution.
RELU_ON_ZEROS = "relu_on_zeros"
RELU_LATE = "relu_late"
CLIP_APART = "clip_apart"
PRELU = "prelu"
POOL_FIRST = "pool_first"
SEVERAL_READERS = "several_readers"
RESHAPED = "reshaped"
LEFT_UNKNOWN = "left_unknown"

EXPLANATIONS = {
    REAL: "Input and kernel are real, as in Keras.",
    WEIGHTS_ONLY: (
        "Only the kernel is 1-bit; LCE packs convolutions of a sign by a sign. Give the layer an "
        "input_quantizer."
    ),
    INPUT_ONLY: (
        "Only the input is 1-bit; LCE packs convolutions of a sign by a sign. Give the layer a "
        "kernel_quantizer."
    ),
    MORE_BITS: (
        "The {detail} takes more than two values; LCE knows 1 bit only. Use ste_sign or ApproxSign."
    ),
    TERNARY: (
        "Its input takes three values, and LCE takes them for two: the file would be wrong. Use "
        "ste_sign or ApproxSign and train again."
    ),
    TF_SIGN: (
        "Its input comes from tf.sign, which gives 0 for 0: three values. Use ste_sign, ApproxSign "
        "or larq.math.sign."
    ),
    WHERE: (
        "Its input's sign is a tf.where whose branches are not the constants 1.0 and -1.0. Write "
        "tf.where(x >= 0, 1.0, -1.0), or use ste_sign or ApproxSign."
    ),
    CAST: (
        "Its input's sign is arithmetic on a cast comparison, which LCE does not know. Use "
        "ste_sign or ApproxSign."
    ),
    ZERO_ONE: (
        "Its input is 0 or 1, not -1 or +1, for which LCE has no operator. Use ste_sign or "
        "ApproxSign and train again."
    ),
    UNKNOWN_SIGN: (
        "Its input quantizer says that it is 1-bit, but is none of the signs that LCE knows. Use "
        "ste_sign or ApproxSign."
    ),
    HIDDEN_SIGN: (
        "What it multiplies are +s and -s on all samples, input and kernel, but not by a sign that "
        "the converter knows. Use QuantConv2D or QuantDense with ste_sign or ApproxSign."
    ),
    PAD_VALUES: (
        "It pads with {detail}; LCE packs 0 and +1 only. Set pad_values to 0 or 1 and train again."
    ),
    PADDED: (
        "A padding layer lies between the sign and the convolution. Take it out and let the "
        "convolution pad: padding='same'."
    ),
    SCALED: (
        "The input's sign is multiplied ({detail}) before the convolution. Multiply after the "
        "convolution, where LCE folds constants in; XNOR-Net's factor K has to go."
    ),
    MOVED: (
        "{detail} moves values between the sign and the convolution. Do that first and let the "
        "convolution take the sign: input_quantizer."
    ),
    POOLED: (
        "Pooling ({detail}) lies between the sign and the convolution. Pool first and let the "
        "convolution take the sign: input_quantizer."
    ),
    KERNEL_VALUES: (
        "A filter of its kernel is not +s or -s everywhere: {detail}. Use ste_sign, or "
        "MagnitudeAwareSign, which has one s for each filter."
    ),
    GROUPS: (
        "Each of its {detail}; LCE packs groups of 32, 64, 96, ... input channels only. Use fewer "
        "groups."
    ),
    KIND: (
        "LCE has no 1-bit {detail}. Use QuantConv2D, or QuantDense with both of its quantizers."
    ),
    CHANNELS_FIRST: (
        "Its data_format is channels_first; LCE packs channels_last only. Build the model with "
        "channels_last."
    ),
    UNKNOWN: (
        "The converter kept it in float for a reason that is not known here. Please report it with "
        "the model."
    ),
    NO_LAYER: "No convolution or dense layer of the Keras model has its kernel.",
    FAKE_QUANT: (
        "Fake quantization after it makes its output int8, which LCE's own runtime refuses "
        "together with zero padding (bireal_keras.runtime takes it). Take the fake quantization "
        "out, or set pad_values=1."
    ),
    GROUPED: (
        "LCE's own runtime loads no convolution of several groups (bireal_keras.runtime does)."
    ),
    RELU_ON_ZEROS: (
        "LCE does not fuse a ReLU with a convolution that pads with zeros. Set pad_values=1, or "
        "leave it."
    ),
    RELU_LATE: (
        "LCE fuses a ReLU only right after the convolution, with neither bias, factor nor "
        "BatchNormalization between. Put BatchNormalization after the ReLU, or leave it."
    ),
    CLIP_APART: (
        "Fused with a convolution of so large filters, an activation that clips costs digits: LCE "
        "adds a bias as large as the sum of all bits. It was kept apart."
    ),
    PRELU: "LCE does not fuse a PReLU.",
    POOL_FIRST: (
        "BatchNormalization comes after the pooling. Put it between convolution and pooling, where "
        "it costs nothing; for max-pooling that is the same only where gamma is not negative."
    ),
    SEVERAL_READERS: (
        "Several layers read the convolution; LCE fuses only what reads it alone. Put "
        "BatchNormalization before the fork."
    ),
    RESHAPED: "A reshape separates the convolution from what follows; these are small.",
    LEFT_UNKNOWN: "LCE did not fuse what follows, for a reason that is not known here.",
}


def explain(code: str, detail: str = "") -> str:
    """The sentences of a code, "" for the empty one."""
    return EXPLANATIONS[code].format(detail=detail) if code else ""
