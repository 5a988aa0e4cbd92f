"""Which results are packed, and which are needed as real numbers."""

from collections import defaultdict
from dataclasses import dataclass

from bireal_keras.export.binarize.fuse import Output
from bireal_keras.export.binarize.graph import Graph, Operator
from bireal_keras.export.binarize.match import Plan
from bireal_keras.export.binarize.signs import is_max_pool


@dataclass(frozen=True)
class BinaryLayer:
    """A binary layer that is needed.

    Attributes:
        plan: what it is made of.
        output: what it computes of its sums.
        packs: whether it writes bits, for binary layers alone, and not real numbers.
    """

    plan: Plan
    output: Output
    packs: bool


@dataclass(frozen=True)
class Decision:
    """What is to be written.

    Attributes:
        layers: by the operator of the float graph.
        real: the tensors that are needed as they are in the float graph.
    """

    layers: dict[Operator, BinaryLayer]
    real: set[int]


def decide(graph: Graph, results: list[tuple[Plan, Output]]) -> Decision:
    """Finds what is needed as bits alone.

    Goes from the last operator to the first, so that of each tensor all readers are known.

    Args:
        graph: to look at.
        results: what each layer can compute, as `fuse.follow` says.
    """
    by_tensor: dict[int, list[tuple[Plan, Output]]] = defaultdict(list)
    for plan, output in results:
        by_tensor[output.tensor].append((plan, output))
    found = Decision({}, set(graph.outputs))
    # Tensors whose signs are read, and what reads them: dense layers (True) or convolutions.
    signed: dict[int, set[bool]] = {}
    for operator in reversed(graph.operators):
        outputs = operator.outputs
        needed = [result for result in outputs if result in found.real or result in signed]
        if not needed:
            continue
        if any(_add_layer(found, signed, *one) for one in by_tensor[outputs[0]]):
            continue
        if found.real.isdisjoint(needed) and _pools_bits(operator, signed[needed[0]]):
            signed.setdefault(operator.inputs[0], set()).add(False)
        else:
            found.real.update(outputs, operator.inputs)
    return found


def _pools_bits(operator: Operator, readers: set[bool]) -> bool:
    """Whether the signs of what a pool computes are better pooled themselves: bits are smaller."""
    return is_max_pool(operator) and readers == {False}


def _add_layer(found: Decision, signed: dict[int, set[bool]], plan: Plan, output: Output) -> bool:
    """Adds a layer; False if it is not to write this result, since it would not be bits."""
    result = output.tensor
    packs = (
        result not in found.real
        and signed[result] == {plan.is_dense}
        and not output.left
        and not plan.is_cropped
        and plan.windows.padding.is_exact_on_bits
    )
    if output.only_bits and not packs:
        return False
    found.layers[plan.operator] = BinaryLayer(plan, output, packs)
    if not packs:
        found.real.add(result)
    source = plan.sign.source
    if plan.reads_bits:
        signed.setdefault(source.tensor, set()).add(plan.is_dense)
        return True
    found.real.add(source.tensor)
    if source.threshold is not None:
        found.real.add(source.threshold)
    for move in source.moves:
        found.real.update(move.inputs[1:])
    return True
