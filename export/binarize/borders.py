"""What lies between a sign and the convolution that reads it: padding, and dilation.

TensorFlow's converter leaves a dilated convolution as SPACE_TO_BATCH_ND, CONV_2D and
BATCH_TO_SPACE_ND, and padding as PAD or PADV2, one around the other.
"""

from typing import NamedTuple

import numpy as np

from bireal_keras.export.binarize.constants import Constants
from bireal_keras.export.binarize.graph import Graph, Operator
from bireal_keras.export.binarize.padding import Axis

# (before, after) for height and width.
Sides = tuple[tuple[int, int], tuple[int, int]]
NO_SIDES: Sides = ((0, 0), (0, 0))
UNDILATED = (1, 1)


class Border(NamedTuple):
    """Rows and columns of one value around a map."""

    sides: Sides
    value: float


class Surroundings(NamedTuple):
    """What a convolution reads.

    Attributes:
        data: index of the tensor inside of all borders.
        borders: around it, the outermost first.
        dilations: that SPACE_TO_BATCH_ND makes, for height and width.
        pads_channels: whether a border has more channels than what is inside.
    """

    data: int
    borders: tuple[Border, ...]
    dilations: tuple[int, int]
    pads_channels: bool


class Borders:
    """Looks at what surrounds the convolutions of a graph."""

    def __init__(self, graph: Graph, constants: Constants):
        self._graph = graph
        self._constants = constants
        self._producers = graph.producers()
        self._readers = graph.readers()

    def around(self, tensor: int) -> Surroundings:
        """What lies before a convolution's input."""
        borders: list[Border] = []
        dilations, pads_channels = UNDILATED, False
        producer = self._producers.get(tensor)
        if producer is not None and producer.name == "SPACE_TO_BATCH_ND":
            found = self._block_and_sides(producer)
            if found is not None:
                dilations = found[0]
                borders.append(Border(found[1], 0.0))
                tensor = producer.inputs[0]
        while (producer := self._producers.get(tensor)) is not None:
            padding = self._padding(producer)
            if padding is None:
                break
            sides, value = padding
            pads_channels |= any(sides[3])
            borders.append(Border((sides[1], sides[2]), value))
            tensor = producer.inputs[0]
        return Surroundings(tensor, tuple(borders), dilations, pads_channels)

    def after(self, tensor: int, dilations: tuple[int, int]) -> tuple[Sides, int] | None:
        """What BATCH_TO_SPACE_ND crops, and the tensor that it writes.

        Args:
            tensor: that the convolution writes.
            dilations: of the SPACE_TO_BATCH_ND before it.

        Returns:
            None if something else reads the tensor.
        """
        if dilations == UNDILATED:
            return NO_SIDES, tensor
        readers = self._readers[tensor]
        if len(readers) != 1 or self._graph.is_output(tensor):
            return None
        [reader] = readers
        found = self._block_and_sides(reader) if reader.name == "BATCH_TO_SPACE_ND" else None
        if found is None or found[0] != dilations or reader.inputs[0] != tensor:
            return None
        return found[1], reader.outputs[0]

    def _padding(self, operator: Operator) -> tuple[list[tuple[int, int]], float] | None:
        """(before, after) of all four axes, and the value; None if it is not known, or no PAD."""
        if operator.name not in ("PAD", "PADV2"):
            return None
        operator.require(2 if operator.name == "PAD" else 3)
        sides = self._constants.get(operator.inputs[1])
        value: np.generic | None = np.float32(0)
        if operator.name == "PADV2":
            value = self._constants.scalar(operator.inputs[2])
        if sides is None or not isinstance(value, np.float32) or sides.shape != (4, 2):
            return None
        numbers = [(int(before), int(after)) for before, after in sides]
        if min(min(pair) for pair in numbers) < 0:
            raise ValueError(f"The .tflite file is damaged: a {operator.name} of negative sizes.")
        return None if any(numbers[0]) else (numbers, float(value))

    def _block_and_sides(self, operator: Operator) -> tuple[tuple[int, int], Sides] | None:
        """Of SPACE_TO_BATCH_ND or BATCH_TO_SPACE_ND on height and width."""
        operator.require(3)
        block, sides = (self._constants.get(tensor) for tensor in operator.inputs[1:3])
        if block is None or sides is None or block.shape != (2,) or sides.shape != (2, 2):
            return None
        if (block < 1).any() or (sides < 0).any():
            raise ValueError(f"The .tflite file is damaged: a {operator.name} of negative sizes.")
        numbers = [(int(before), int(after)) for before, after in sides]
        return (int(block[0]), int(block[1])), (numbers[0], numbers[1])


def collapsed(axis: Axis, around: list[tuple[int, int, float]]) -> tuple[int, set[float]]:
    """One padding for several, one around the other.

    Args:
        axis: whose `before` counts from the outermost border.
        around: before, after and value of each, the outermost first.

    Returns:
        How much padding comes before the map for the first window, negative where that starts
        inside; and which values the windows see.
    """
    seen = set()
    start, end = -axis.before, axis.end
    # In coordinates of the map with the borders that are left.
    size = axis.size + sum(before + after for before, after, _ in around)
    for before, after, value in around:
        if start < before or end > size - after:
            seen.add(value)
        start, end, size = start - before, end - before, size - before - after
    return -start, seen
