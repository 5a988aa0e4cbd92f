"""Weights with which two correct programs agree on every sign.

Two correct programs may round a value near zero to different signs, and one sign can change
everything after it. With the weights below every value before a sign is far from zero, as
rounding goes: whatever differs then is wrong.
"""

import numpy as np

from bireal_keras import blocks
from bireal_keras._keras import keras, lq
from bireal_keras.quantizers import MagnitudeAwareSign

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
    is zero. So does a sigmoid: the gates of Real-to-Binary nets are all 1/2. The classifier,
    after all signs, keeps its weights, or is made smaller where its logits would be large.

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
        outputs = layer.output if isinstance(layer.output, list) else [layer.output]
        shapes = [tuple(weight.shape) for weight in layer.weights]
        step = min(grids[tensor.name][0] for tensor in inputs)
        offsets = [grids[tensor.name][1] % step for tensor in inputs]
        offset = sum(offsets) % step
        consumers = _consumers(layer)

        if isinstance(layer, lq.layers.QuantConv2D):
            assert offset != 0, f"{layer.name} may see zeros"
            # Sums of so many signs come to about 1, where the quantizer scales them.
            step, offset = 2.0 ** -round(np.log2(np.prod(shapes[0][:3])) / 2), 0.0
            layer.set_weights([random.choice([-step, step], shapes[0])])
            if not isinstance(layer.kernel_quantizer, MagnitudeAwareSign):
                step = 1.0
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            if layer.trainable:
                kernel = np.zeros(shapes[0])
                for channel in range(shapes[0][2]):
                    places = random.permutation(9)[:2]
                    kernel[..., channel, 0].flat[places] = random.choice([-1, 1], 2)
                layer.set_weights([kernel])
            # Of the blur all weights are sixteenths, of the others integers.
            step, offset = step / (1 if layer.trainable else 16), 0.0
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
            channels = shapes[0][0]
            if any(part in layer.name for part in ("shortcut", "stem", "transition")):
                gamma = 1.0
            else:
                # What the blocks add should stay small, too; between real convolutions sums
                # grow with every block.
                gamma = 0.5 if one_bit else 2.0**-4
                if step == 1:  # sums of signs as they are
                    gamma = 2.0**-5
            variance = np.full(channels, np.float32(1) - np.float32(layer.epsilon))
            signs = random.choice([-1, 1], channels)
            statistics = [np.zeros(channels), variance]
            if layer.scale:
                statistics = [gamma * signs, betas(channels), *statistics]
                step = min(gamma * step, _BETA_STEP)
                offset = gamma * offset % step
            layer.set_weights(statistics)
            if (
                layer.scale
                and offset == 0
                and not consumers <= {keras.layers.Add, blocks.RealActivation}
            ):
                shift(layer, step / 2)
                offset = step / 2
        elif isinstance(layer, blocks.ChannelShift):
            layer.set_weights([betas(shapes[0])])
            if offset == 0:
                shift(layer, step / 2)
                offset = step / 2
        elif isinstance(layer, keras.layers.PReLU):
            layer.set_weights([random.choice([-1, 1], shapes[0])])
        elif isinstance(layer, blocks.RealActivation) and layer.activation == "relu":
            # Zero is among the values then.
            while offset % step:
                step /= 2
            offset = 0.0
        elif isinstance(layer, keras.layers.Concatenate):
            assert len({*offsets}) == 1
            offset = offsets[0]
        elif isinstance(layer, keras.layers.Multiply):
            step, offset = grids[inputs[0].name][0] / 2, 0.0
        elif isinstance(layer, keras.layers.Dense) and layer.name.endswith("_gate_expand"):
            layer.set_weights([np.zeros(shapes[0])])
        elif isinstance(layer, keras.layers.AveragePooling2D):
            step, offset = step / 4, offset % (step / 4)
        elif isinstance(layer, keras.layers.Add) and offset == 0:
            for tensor in inputs:
                producer = tensor._keras_history.layer
                if isinstance(producer, keras.layers.BatchNormalization):
                    shift(producer, step / 2)
                    offset = step / 2
                    break
        grids |= {tensor.name: (step, offset) for tensor in outputs}
    if "head_fc" in {layer.name for layer in model.layers}:
        fc = model.get_layer("head_fc")
        logits = keras.Model(model.input, fc.output)(exact_images(model.input_shape[1], 4))
        fc.kernel.assign(fc.kernel / max(1, np.std(logits)))


def _consumers(layer: keras.layers.Layer) -> set[type]:
    """Types of the layers that take a layer's values, as they are or the largest of them."""
    types = set()
    for node in layer.outbound_nodes:
        consumer = node.outbound_layer
        if isinstance(consumer, keras.layers.MaxPool2D):
            types |= _consumers(consumer)
        else:
            types.add(type(consumer))
    return types
