"""From a PyTorch module, or a saved program, to a float `.tflite` file: what litert-torch is told.

The one door to PyTorch and litert-torch, the optional dependency `[torch]`.
"""

import contextlib
import copy
import functools
import io
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bireal_keras import _native_log
from bireal_keras.export import pt2

if TYPE_CHECKING:
    import torch

_INSTALL = "pip install 'bireal-keras[torch]'"
# Axes of a tensor of images, whose channels come first in PyTorch.
IMAGE_AXES = 4


@functools.cache
def libraries() -> tuple[Any, Any]:
    """torch and litert_torch.

    Raises:
        ImportError: they are not installed.
    """
    try:
        with _silence():
            import litert_torch
            import torch
    except ModuleNotFoundError as error:
        raise ImportError(
            "To convert a PyTorch model takes PyTorch and litert-torch, and there is no "
            f"{error.name}: {_INSTALL}."
        ) from error
    return torch, litert_torch


def load(path: str | os.PathLike[str]) -> "tuple[torch.nn.Module, tuple[torch.Tensor, ...]]":
    """The module of a program that `torch.export.save` wrote, and inputs of the sizes it takes.

    Raises:
        ValueError: the file holds something else than a program that only computes, see `pt2`.
        OSError: it cannot be read.
    """
    torch, _ = libraries()
    content = Path(path).read_bytes()
    try:
        checked = pt2.checked(content)
        with _silence():
            program = torch.export.load(io.BytesIO(checked))
            module = torch.export.unflatten(program)
    except Exception as error:  # A damaged file can raise nearly anything.
        raise ValueError(f"{path} cannot be loaded: {first_line(error)}") from error
    taken = set(program.graph_signature.user_inputs)
    values = [
        node.meta["val"]
        for node in program.graph.find_nodes(op="placeholder")
        if node.name in taken
    ]
    if not is_taken(values):
        received = ", ".join(f"{one.dtype} {tuple(one.shape)}" for one in values)
        raise ValueError(
            f"{path} cannot be converted: it must take float32 tensors (batch, ...) of one batch. "
            f"Received: {received or 'no inputs'}."
        )
    return module, tuple(torch.zeros(tuple(one.shape)) for one in values)


def is_taken(inputs: "Sequence[torch.Tensor]") -> bool:
    """Whether inputs are such that a file can take them: float32 (batch, ...), all of one batch."""
    torch, _ = libraries()
    return (
        all(isinstance(one, torch.Tensor) and one.dtype == torch.float32 for one in inputs)
        and all(one.ndim > 0 and one.numel() > 0 for one in inputs)
        and len({len(one) for one in inputs}) == 1
    )


def in_evaluation_mode(module: "torch.nn.Module") -> "torch.nn.Module":
    """A copy in main memory; a program's module is as it was exported."""
    module = copy.deepcopy(module).cpu()
    # Parts of a saved program have no other mode, and say so with an exception.
    with contextlib.suppress(NotImplementedError):
        module.eval()
    return module


def run(module: "torch.nn.Module", inputs: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
    """The results of a module, one or several tensors.

    Raises:
        ValueError: it gives something else.
    """
    torch, _ = libraries()
    with torch.no_grad():
        outputs = module(*inputs)
    results = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    if not results or not all(isinstance(one, torch.Tensor) for one in results):
        raise ValueError(
            f"it must give a tensor, or a tuple or list of tensors. Received: {type(outputs)}."
        )
    return results


def float_file(
    module: "torch.nn.Module", inputs: "tuple[torch.Tensor, ...]", name: str
) -> tuple[bytes, dict[str, str]]:
    """What litert-torch makes of a module; images have their channels last in it.

    Args:
        module: in evaluation mode.
        inputs: that it takes.
        name: what it is called in errors.

    Returns:
        The file, and the names of modules, see `torch_file.tidied`.

    Raises:
        ValueError: it cannot be converted.
    """
    torch, litert_torch = libraries()
    with _silence() as native_errors:
        try:
            outputs = run(module, inputs)
            program = torch.export.export(module, inputs)
            _check_mode(program)
            _broadcast_implicitly(program)
            unflattened = torch.export.unflatten(program)
            wrapped = litert_torch.to_channel_last_io(
                unflattened,
                args=[index for index, one in enumerate(inputs) if one.ndim == IMAGE_AXES],
                outputs=[index for index, one in enumerate(outputs) if one.ndim == IMAGE_AXES],
            )
            # What is in it has been exported in evaluation mode, and has no other.
            wrapped.training = False
            moved = tuple(
                one.permute(0, 2, 3, 1).contiguous() if one.ndim == IMAGE_AXES else one
                for one in inputs
            )
            content = bytes(litert_torch.convert(wrapped, moved).model_content())
        except Exception as error:  # PyTorch and litert-torch raise nearly anything.
            message = f"{name} cannot be converted: {first_line(error)} {native_errors()}"
            raise ValueError(message.rstrip()) from error
    return content, _names(unflattened)


def first_line(error: Exception) -> str:
    """What an exception says, less what is added for developers of PyTorch."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _silence() -> Iterator[Any]:
    """litert-torch prints its progress, and both libraries warn of their own use of others."""
    with (
        _native_log.captured() as errors,
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield errors


def _names(unflattened: "torch.nn.Module") -> dict[str, str]:
    """The names of modules by those that litert-torch gives them, if those are of one module only.

    It leaves out what is never called: of "layers.0.conv" in a ModuleList it keeps "0.conv".
    """
    found: dict[str, set[str]] = defaultdict(set)

    def visit(module: Any, name: str, short: str) -> None:
        graph = getattr(module, "graph", None)
        for node in [] if graph is None else graph.find_nodes(op="call_module"):
            inner = f"{name}{node.target}"
            inner_short = short + node.target.rpartition(".")[2]
            found[inner_short].add(inner)
            visit(module.get_submodule(node.target), f"{inner}.", f"{inner_short}.")

    visit(unflattened, "", "")
    return {short: names.pop() for short, names in found.items() if len(names) == 1}


def _check_mode(program: "torch.export.ExportedProgram") -> None:
    torch, _ = libraries()
    aten = torch.ops.aten
    # Where these are told whether they train.
    places = {aten.batch_norm.default: 5, aten.dropout.default: 2, aten.feature_dropout.default: 2}
    for node in program.graph.nodes:
        if node.target in places and node.args[places[node.target]]:
            raise ValueError(
                f"{node.name} is in training mode. Call module.eval() before torch.export.export."
            )


def _broadcast_implicitly(program: "torch.export.ExportedProgram") -> None:
    """Takes out `bias.expand_as(x)` where what follows broadcasts anyway, as in `x + bias`.

    ReActNet's code expands its shifts, and litert-torch then gives one operand of the sum the
    channels last and not the other.
    """
    torch, _ = libraries()
    aten = torch.ops.aten
    broadcasting = {
        *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor),
        *(aten.ge.Tensor, aten.gt.Tensor, aten.le.Tensor, aten.lt.Tensor),
        *(aten.maximum.default, aten.minimum.default),
    }
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target not in (aten.expand.default, aten.expand_as.default):
            continue
        source = node.args[0]
        for user in list(node.users):
            if user.target not in broadcasting:
                continue
            operands = [source if one is node else one for one in user.args[:2]]
            shapes = [one.meta["val"].shape for one in operands]
            if torch.broadcast_shapes(*shapes) == user.meta["val"].shape:
                user.args = (*operands, *user.args[2:])
    graph.eliminate_dead_code()
    program.graph_module.recompile()
