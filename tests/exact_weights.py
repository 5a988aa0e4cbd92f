"""Weights with which two correct programs agree on every sign.

Two correct programs may round a value near zero to different signs, and one sign can change
everything behind it. With the weights below there is nothing to round: whatever differs then
is wrong.
"""

import numpy as np

from bireal_keras import blocks
from bireal_keras._keras import keras, lq


def set_exact_weights(model: keras.Model, seed: int = 0) -> None:
    """Gives every value before a sign so few binary digits that float32 sums are exact.

    Weights and scales are powers of two, offsets multiples of 1/16. A real convolution has
    four weights a filter that are not zero, or its sums would gain digits from stage to
    stage. A leaky clip rounds, whatever the weights: the one real convolution behind it, in
    the first bottleneck, is zero. The classifier, behind all signs, keeps its weights.

    Args:
        model: of the zoo; its images should have eight binary digits, as `exact_images`.
        seed: of the weights.
    """
    random = np.random.default_rng(seed)

    def sixteenths(shape):
        return random.integers(-8, 9, shape) / 16

    for layer in model.layers:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if isinstance(layer, lq.layers.QuantConv2D):
            # Sums of so many signs come to about 1.
            scale = 2.0 ** -round(np.log2(np.prod(shapes[0][:3])) / 2)
            layer.set_weights([random.choice([-scale, scale], shapes[0])])
        elif isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(shapes[0])
            if layer.name != "stage1_block1_conv1":
                rows = kernel.reshape(-1, shapes[0][-1])
                for column in rows.T:
                    taps = random.permutation(len(column))[:4]
                    column[taps] = random.choice([-0.5, 0.5], len(taps))
            layer.set_weights([kernel])
        elif isinstance(layer, keras.layers.BatchNormalization):
            gamma = random.choice([-0.5, 0.5], shapes[0])
            variance = np.full(shapes[0], np.float32(1) - np.float32(layer.epsilon))
            layer.set_weights([gamma, sixteenths(shapes[0]), sixteenths(shapes[0]), variance])
        elif isinstance(layer, blocks.ChannelShift):
            layer.set_weights([sixteenths(shapes[0])])
        elif isinstance(layer, keras.layers.PReLU):
            layer.set_weights([random.choice([-1, 0, 1], shapes[0])])


def exact_images(size: int, count: int, seed: int = 0) -> np.ndarray:
    """Images of one colour each with noise, of multiples of 1/128 in [-1, 1).

    Returns:
        float32 (count, size, size, 3).
    """
    random = np.random.default_rng(seed)
    colour = random.integers(-64, 64, (count, 1, 1, 3))
    noise = random.integers(-64, 64, (count, size, size, 3))
    return ((colour + noise) / 128).astype(np.float32)
