"""The result: a network's cost in figures, as a table and as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

BINARY_MACS_PER_FLOP = 64
FLOAT_BITS = 32

MULTIPLIED_AS_REALS = "only one factor is 1-bit: multiplied as reals"
NEVER_CALLED = "takes no part in what the model computes"
UNKNOWN_KIND = "its weights are counted, its multiplications, if any, are not"


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer of a network, or all of it, costs for one input.

    Attributes:
        name: of the layer; of the output tensor for an operator of a `.tflite` file.
        kind: class of the layer; name of the operator.
        binary_macs: multiply-accumulates of which both factors are 1-bit.
        real_macs: all others.
        binary_weights: weights of one bit.
        real_weights: all others.
        memory_bits: of all its weights.
        note: what a reader should know, or nothing.
    """

    name: str
    kind: str
    binary_macs: int = 0
    real_macs: int = 0
    binary_weights: int = 0
    real_weights: int = 0
    memory_bits: int = 0
    note: str = ""

    @property
    def flops(self) -> float:
        """Real MACs and a 64th of the binary ones."""
        return self.real_macs + self.binary_macs / BINARY_MACS_PER_FLOP

    @property
    def float_flops(self) -> int:
        """FLOPs of the same layer in 32 bits."""
        return self.real_macs + self.binary_macs

    @property
    def float_memory_bits(self) -> int:
        """Memory of the same layer in 32 bits."""
        return FLOAT_BITS * (self.real_weights + self.binary_weights)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a network costs; `str(cost)` is for people, `cost.as_dict()` for JSON.

    Attributes:
        name: of the model, or the file's.
        layers: those that have weights, in the order in which they compute.
    """

    name: str
    layers: tuple[LayerCost, ...]

    @property
    def total(self) -> LayerCost:
        """The sum of all layers."""
        sums: dict[str, Any] = {
            field: sum(getattr(layer, field) for layer in self.layers) for field in _SUMMED
        }
        return LayerCost(name="total", kind="", **sums)

    @property
    def flops_ratio(self) -> float:
        """How many times the FLOPs the same network in 32 bits takes; 1 if it takes none."""
        total = self.total
        return total.float_flops / total.flops if total.flops else 1.0

    @property
    def memory_ratio(self) -> float:
        """How many times the memory the same network in 32 bits takes; 1 if it takes none."""
        total = self.total
        return total.float_memory_bits / total.memory_bits if total.memory_bits else 1.0

    def as_dict(self) -> dict[str, Any]:
        """The whole cost as dictionaries, lists, strings and numbers."""
        return {
            "name": self.name,
            "layers": [dataclasses.asdict(layer) | {"flops": layer.flops} for layer in self.layers],
            "total": {field: getattr(self.total, field) for field in (*_SUMMED, "flops")},
            "flops_ratio": self.flops_ratio,
            "memory_ratio": self.memory_ratio,
        }

    def __str__(self) -> str:
        total = self.total
        lines = _aligned(_HEADER, [*map(_cells, self.layers), _cells(total)])
        lines += [
            "",
            f"{self.name}: {total.flops:.3e} FLOPs, "
            f"{self.flops_ratio:.2f} times fewer than in 32 bits ({total.float_flops:.3e})",
            f"{self.name}: {total.memory_bits / 1e6:.2f} Mbit of weights, "
            f"{self.memory_ratio:.2f} times less than in 32 bits "
            f"({total.float_memory_bits / 1e6:.2f} Mbit)",
        ]
        lines += [f"{layer.name}: {layer.note}" for layer in self.layers if layer.note]
        return "\n".join(lines)


_SUMMED = ("binary_macs", "real_macs", "binary_weights", "real_weights", "memory_bits")
_HEADER = ("layer", "kind", "binary MACs", "real MACs", "1-bit weights", "real weights", "kbit")
_TEXT_COLUMNS = 2


def _cells(layer: LayerCost) -> tuple[str, ...]:
    counts = (layer.binary_macs, layer.real_macs, layer.binary_weights, layer.real_weights)
    figures = [f"{count:,}" if count else "" for count in counts]
    return (layer.name, layer.kind, *figures, f"{layer.memory_bits / 1e3:,.1f}")


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with text to the left and figures to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    return [
        "  ".join(
            cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in (header, *rows)
    ]
