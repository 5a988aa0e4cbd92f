"""Looking into a model's graph."""

from bireal_keras._keras import keras


def producers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that feed a layer, in order."""
    layers = layer.inbound_nodes[0].inbound_layers
    return layers if isinstance(layers, list) else [layers]


def chain(layer: keras.layers.Layer, start: keras.layers.Layer) -> list[str]:
    """Types of the layers on the straight way from `start`, exclusive, to `layer`, inclusive."""
    types: list[str] = []
    while layer is not start:
        types.insert(0, type(layer).__name__)
        [layer] = producers(layer)
    return types
