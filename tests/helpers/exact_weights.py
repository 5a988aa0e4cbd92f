"""Weights with which two correct programs agree on every sign.

Two correct programs may round a value near zero to different signs, and one sign can change
everything after it. With the weights below every value before a sign is far from zero, as
rounding goes: whatever differs then is wrong.
"""

import numpy as np

from bireal_keras import blocks
from bireal_keras._keras import keras, lq

_IMAGE_STEP = 2.0**-7
_BETA_STEP = 2.0**-4


def exact_images(size: int, count: int) -> np.ndarray:
    """Images of one colour each with noise, of multiples of 1/128 in [-1, 1).

    Returns:
        float32 (count, size, size, 3).
    """
    random = np.random.default_rng(1)
    colour = random.integers(-64, 64, (count, 1, 1, 3))
    noise = random.integers(-64, 64, (count, size, size, 3))
    return ((colour + noise) * _IMAGE_STEP).astype(np.float32)


def set_exact_weights(model: keras.Model) -> None:
    """Keeps all values before signs on grids that leave out zero.

    Weights and scales are powers of two, so that all values of a tensor are multiples of one
    step plus one offset, and float32 holds them exactly. The way through the network follows
    both, and where the offset comes to nothing on the way to a sign, a BatchNormalization or
    a shift adds half a step.

    A leaky clip leaves any grid: the one real convolution after it, in the first bottleneck,
    is zero. The classifier, after all signs, keeps its weights.

    Args:
        model: of the zoo, for images of multiples of 1/128.
    """
    random = np.random.default_rng(0)
    grids: dict[str, tuple[float, float]] = {model.input.name: (_IMAGE_STEP, 0.0)}

    one_bit = any(isinstance(layer, lq.layers.QuantConv2D) for layer in model.layers)

    def betas(count):
        return random.integers(-8, 9, count) * _BETA_STEP

    def shift(layer, amount):
        """Adds to what a BatchNormalization or ChannelShift adds."""
        variable = layer.beta if hasattr(layer, "beta") else layer.shift
        variable.assign_add(np.full(variable.shape, amount))

    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        shapes = [tuple(weight.shape) for weight in layer.weights]
        step = min(grids[tensor.name][0] for tensor in inputs)
        offset = sum(grids[tensor.name][1] for tensor in inputs) % step
        consumers = {type(node.outbound_layer) for node in layer.outbound_nodes}

        if isinstance(layer, lq.layers.QuantConv2D):
            assert offset != 0, f"{layer.name} may see zeros"
            # Sums of so many signs come to about 1.
            step, offset = 2.0 ** -round(np.log2(np.prod(shapes[0][:3])) / 2), 0.0
            layer.set_weights([random.choice([-step, step], shapes[0])])
        elif isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(shapes[0])
            rows = kernel.reshape(-1, shapes[0][-1])
            if layer.name == "stage1_block1_conv1":
                step, offset = _BETA_STEP, 0.0
            elif layer.kernel_size == (1, 1):
                for output, column in enumerate(rows.T):
                    column[output % len(column)] = random.choice([-1, 1])
            else:
                for column in rows.T:
                    column[random.permutation(len(column))[:4]] = random.choice([-0.5, 0.5], 4)
                step, offset = step / 2, 0.0
            layer.set_weights([kernel])
        elif isinstance(layer, keras.layers.BatchNormalization):
            [(channels,), *_] = shapes
            if "shortcut" in layer.name or "stem" in layer.name:
                gamma = 1.0
            else:
                # What the blocks add should stay small, too; between real convolutions sums
                # grow with every block.
                gamma = 0.5 if one_bit else 2.0**-4
            variance = np.full(channels, np.float32(1) - np.float32(layer.epsilon))
            signs = random.choice([-1, 1], channels)
            layer.set_weights([gamma * signs, betas(channels), np.zeros(channels), variance])
            step = min(gamma * step, _BETA_STEP)
            offset = gamma * offset % step
            if offset == 0 and not consumers <= {keras.layers.Add, blocks.RealActivation}:
                shift(layer, step / 2)
                offset = step / 2
        elif isinstance(layer, blocks.ChannelShift):
            layer.set_weights([betas(shapes[0])])
            if offset == 0:
                shift(layer, step / 2)
                offset = step / 2
        elif isinstance(layer, keras.layers.PReLU):
            layer.set_weights([random.choice([-1, 1], shapes[0])])
        elif isinstance(layer, keras.layers.AveragePooling2D):
            step, offset = step / 4, offset % (step / 4)
        elif isinstance(layer, keras.layers.Add) and offset == 0:
            for tensor in inputs:
                producer = tensor._keras_history.layer
                if isinstance(producer, keras.layers.BatchNormalization):
                    shift(producer, step / 2)
                    offset = step / 2
                    break
        grids[layer.output.name] = (step, offset)
