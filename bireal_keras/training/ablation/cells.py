"""What a study can train: a choice on each axis, and which combinations of them."""

import dataclasses
import itertools
from collections.abc import Sequence

# Every axis and its choices, the paper's first: the one list of them, which the command reads
# without TensorFlow. All but the last axis are arguments of `AblationNet18`, which knows the
# choices by the same names.
AXES: dict[str, tuple[str, ...]] = {
    "shortcuts": ("per_conv", "resnet", "none"),
    "activation": ("approx_sign", "ste_sign"),
    "weight_gradient": ("magnitude_aware", "plain"),
    "start": ("clip", "scratch", "relu"),
}

# The real-valued networks that are trained one after the other before a cell, by its start.
PRETRAINING: dict[str, tuple[str, ...]] = {
    "scratch": (),
    "relu": ("relu",),
    "clip": ("relu", "leaky_clip", "clip"),
}

_FULL_NET = {"shortcuts": "per_conv", "activation": "approx_sign"}
# A design is the union of these: in each, an axis that is not named takes all its choices.
DESIGNS: dict[str, tuple[dict[str, str], ...]] = {
    # Every combination.
    "factorial": ({},),
    # A quarter of them, of which each of the paper's claims has a pair: the shortcuts with both
    # gradients from scratch, and of the full network all starts and both gradients of the weights.
    "claims": (
        {"weight_gradient": "magnitude_aware", "start": "scratch"},
        {**_FULL_NET, "weight_gradient": "magnitude_aware"},
        {**_FULL_NET, "start": "scratch"},
    ),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A choice on each of `AXES`."""

    shortcuts: str
    activation: str
    weight_gradient: str
    start: str

    def __str__(self) -> str:
        return "-".join(dataclasses.astuple(self))


def select_cells(design: str = "factorial", **choices: Sequence[str]) -> list[Cell]:
    """The cells of a design that are made of the given choices; of an axis not given, of all.

    Args:
        design: one of `DESIGNS`.
        **choices: some of the choices of an axis, by its name.

    Raises:
        ValueError: there is no such design, axis or choice, or no such cell.
    """
    if design not in DESIGNS:
        raise ValueError(f"`design` must be one of {', '.join(DESIGNS)}. Received: {design!r}.")
    for axis, chosen in choices.items():
        if axis not in AXES:
            raise ValueError(f"An axis must be one of {list(AXES)}. Received: {axis!r}.")
        if not chosen or not set(chosen) <= set(AXES[axis]):
            raise ValueError(
                f"`{axis}` must be some of {', '.join(AXES[axis])}. "
                f"Received: {', '.join(chosen) or 'none'}."
            )
    combinations = itertools.product(*({**AXES, **choices}[axis] for axis in AXES))
    cells = [cell for cell in itertools.starmap(Cell, combinations) if _is_in(cell, design)]
    if not cells:
        raise ValueError(
            f"The design {design!r} has no cell of these choices: "
            f"{'; '.join(', '.join(chosen) for chosen in choices.values())}."
        )
    return cells


def _is_in(cell: Cell, design: str) -> bool:
    choices = dataclasses.asdict(cell)
    return any(part.items() <= choices.items() for part in DESIGNS[design])
