"""A grid of LceBconv2d cases, drawn from everything that the op can be asked for."""

import numpy as np
from lce_ops import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, VALID, Bconv2d

CHANNELS = [1, 2, 3, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 160, 256, 384, 512]


def random_case(seed: int) -> Bconv2d | None:
    """The case of that seed; None if it has no output."""
    random = np.random.default_rng(seed)

    def choose(*options):
        return options[random.integers(len(options))]

    groups = choose(1, 1, 1, 1, 2, 3)
    if groups > 1:
        channels_in = groups * choose(32, 64, 96)
        channels_out = groups * choose(1, 5, 16, 32)
    else:
        channels_in, channels_out = choose(*CHANNELS), choose(*CHANNELS)
    height, width = choose(1, 2, 3, 4, 5, 7, 9), choose(1, 2, 3, 4, 6, 8, 11)
    square = choose((1, 1), (2, 2), (3, 3), (3, 3), (3, 3), (5, 5), (1, 3), (3, 2))
    case = {
        "batch": choose(1, 1, 3),
        "height": height,
        "width": width,
        "channels_in": channels_in,
        "channels_out": channels_out,
        "filter_size": square,
        "strides": choose((1, 1), (1, 1), (2, 2), (1, 2), (3, 2)),
        "dilations": choose((1, 1), (1, 1), (2, 2), (1, 3)),
        "padding": choose(SAME, SAME, VALID),
        "pad_values": choose(0, 1),
        "activation": choose(NONE, NONE, RELU, RELU_N1_TO_1, RELU6),
        "groups": groups,
        "output": choose("float", "float", "int8", "packed"),
        "scale": choose(0.5, 0.017, 3.0),
        "zero_point": choose(-128, -3, 0, 7, 127),
        "seed": seed,
    }
    extent = [(size - 1) * d + 1 for size, d in zip(case["filter_size"], case["dilations"])]
    if case["padding"] == VALID and (extent[0] > height or extent[1] > width):
        return None
    return Bconv2d(**case)


CASES = {seed: case for seed in range(520) if (case := random_case(seed)) is not None}
