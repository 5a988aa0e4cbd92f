"""From a PyTorch module to a checked file of bits, through litert-torch.

    module -> litert-torch -> a float .tflite file -> convert_tflite

PyTorch keeps channels before height and width, TensorFlow Lite after them: what a file takes and
gives is (batch, height, width, channels), as of every file of this package.
"""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bireal_keras import _native_log
from bireal_keras.export import arguments, torch_file, torch_program
from bireal_keras.export.binarize import told
from bireal_keras.export.from_tflite import convert_tflite
from bireal_keras.export.report import Report
from bireal_keras.export.results import Results
from bireal_keras.export.samples import artificial
from bireal_keras.tflite.metadata import Normalization

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


def convert_torch(
    module: "torch.nn.Module | str | os.PathLike[str]",
    path: str | os.PathLike[str],
    example_inputs: "torch.Tensor | Sequence[torch.Tensor] | None" = None,
    *,
    labels: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    center_crop: float = 1.0,
    samples: "np.ndarray | Sequence[np.ndarray] | None" = None,
    allow_float: bool = False,
    real_layers: str = "float32",
    input_type: str = "float32",
    zero_sign: Literal["refuse", "+1"] = "refuse",
    zero_weights: Literal["refuse", "+1"] = "refuse",
) -> Report:
    """Converts a PyTorch module to a `.tflite` file with bit-packed convolutions.

    litert-torch writes a float file, and `convert_tflite` packs it. The float file is compared with
    the module, and the packed one with the float file. `module` itself stays as it is; it is
    converted as in evaluation mode.

    Args:
        module: takes one or several float32 tensors (batch, ...) of fixed sizes, as images
            (batch, channels, height, width), and gives a tensor or several. Or the path of a
            program that `torch.export.save` wrote, a `.pt2` file. What it holds is checked before
            PyTorch sees it, see `pt2`.
        path: the file to write; its folder exists. What it takes and gives has the channels last:
            (batch, height, width, channels).
        example_inputs: tensors of the module's inputs, whose sizes the file takes. A batch of 1 is
            what devices want. None for a program, which knows them.
        labels: names of the classes, as for `convert`.
        normalization: what images are made of pixels by, as for `convert`. torchvision's
            `Normalize(mean, std)` after `ToTensor` is Normalization(255 * mean, 255 * std), and
            for ImageNet's colours `Normalization.parse("imagenet")`.
        center_crop: as for `convert`.
        samples: as the module takes them, (n, channels, height, width); otherwise as for
            `convert_tflite`.
        allow_float: whether to write the file though a 1-bit layer stayed float.
        real_layers: precision of the kernels of real-valued layers, as for `convert`.
        input_type: what the file takes, as for `convert`.
        zero_sign: what a sign is worth that is 0 for 0, as torch.sign: see `binarize`.
        zero_weights: what a weight of exactly 0 is worth, see `binarize`.

    Returns:
        What became of the module, layer by layer. `report.pytorch` says how far the float file
        agrees with it.

    Raises:
        ValueError: an argument is out of its range; litert-torch cannot convert the module; a 1-bit
            layer stayed float, with the reason of each; the files do not agree.
        ImportError: PyTorch or litert-torch is not installed, with the command that does it.
        OSError: a file cannot be read or written.
    """
    arguments.check_real_layers(real_layers)
    path = arguments.output_path(path)
    if isinstance(module, (str, os.PathLike)):
        name = os.fspath(module)
        if example_inputs is not None:
            raise ValueError(
                "`example_inputs` must be None for a program, which knows the sizes of its inputs. "
                f"Received: {type(example_inputs).__name__}."
            )
        module, inputs = torch_program.load(module)
    else:
        name = type(module).__name__
        inputs = _checked_inputs(module, example_inputs)
        module = torch_program.in_evaluation_mode(module)
    arrays = _samples(samples, inputs)

    _log.info("converting %s with litert-torch", name)
    content, names = torch_program.float_file(module, inputs, name)
    content = torch_file.tidied(content, names)
    _log.info("checking the float file against PyTorch on %d samples", len(arrays[0]))
    agreement = _agreement(module, content, arrays, len(inputs[0]))
    report = convert_tflite(
        content,
        path,
        labels=labels,
        normalization=normalization,
        center_crop=center_crop,
        samples=[_channels_last(values) for values in arrays],
        allow_float=allow_float,
        real_layers=real_layers,
        input_type=input_type,
        zero_sign=zero_sign,
        zero_weights=zero_weights,
    )
    return dataclasses.replace(report, pytorch=agreement)


def _checked_inputs(
    module: Any, example_inputs: "torch.Tensor | Sequence[torch.Tensor] | None"
) -> "tuple[torch.Tensor, ...]":
    """Example inputs as a tuple of tensors in main memory.

    Raises:
        ValueError: the module is none, or they are not what a file can take.
    """
    torch, _ = torch_program.libraries()
    if not isinstance(module, torch.nn.Module):
        raise ValueError(
            "`module` must be a torch.nn.Module or the path of a .pt2 file. "
            f"Received: {type(module).__module__}.{type(module).__name__}."
        )
    if isinstance(example_inputs, torch.Tensor):
        example_inputs = (example_inputs,)
    inputs = tuple(example_inputs or ())
    if not torch_program.is_taken(inputs):
        received = [
            f"{one.dtype} {tuple(one.shape)}" if isinstance(one, torch.Tensor) else repr(one)
            for one in inputs
        ]
        raise ValueError(
            "`example_inputs` must be float32 tensors (batch, ...) of one batch, one for each of "
            "the module's inputs, as torch.zeros(1, 3, 224, 224). "
            f"Received: {', '.join(received) or example_inputs}."
        )
    return tuple(one.detach().cpu() for one in inputs)


def _samples(
    given: np.ndarray | Sequence[np.ndarray] | None, inputs: "Sequence[torch.Tensor]"
) -> list[np.ndarray]:
    """What each input of the module gets, with the channels where PyTorch has them."""
    shapes, size = [tuple(one.shape[1:]) for one in inputs], len(inputs[0])
    if given is not None:
        return arguments.checked_samples(given, shapes, size)
    # They are made as images, so that they look like some.
    made = artificial([(*shape[1:], *shape[:1]) for shape in shapes], size)
    return [np.moveaxis(values, -1, 1) for values in made]


def _channels_last(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, 1, -1) if values.ndim == torch_program.IMAGE_AXES else values


def _agreement(module: Any, content: bytes, arrays: Sequence[np.ndarray], batch: int) -> Results:
    """How far the float file agrees with the module, each on its own.

    A sign flips where a value is within rounding of 0, and changes what follows. So a large network
    agrees on some samples only; an error of the conversion shows on each. Images of one colour have
    few values that differ, and few signs that can flip.

    Raises:
        ValueError: no sample agrees.
    """
    agreement = _compared(module, content, arrays, batch)
    if not agreement.close_samples:
        flat = [_of_one_colour(values) for values in arrays]
        if not _compared(module, content, flat, batch).close_samples:
            raise ValueError(
                "The float file that litert-torch wrote does not compute what PyTorch does: none "
                f"of {agreement.samples} samples is equal up to rounding, and results differ by up "
                f"to {agreement.max_abs_difference:.2g}. Please report it, with the module."
            )
    return agreement


def _compared(module: Any, content: bytes, arrays: Sequence[np.ndarray], batch: int) -> Results:
    torch, _ = torch_program.libraries()
    run = told.run_on_litert(content)
    expected, actual = [], []
    for start in range(0, len(arrays[0]), batch):
        values = [np.ascontiguousarray(array[start : start + batch]) for array in arrays]
        results = torch_program.run(module, [torch.from_numpy(value) for value in values])
        expected.append([_channels_last(result.numpy()) for result in results])
        with _native_log.captured():
            actual.append(run([_channels_last(value) for value in values]))
    return Results.of(*(list(map(np.concatenate, zip(*one))) for one in (expected, actual)))


def _of_one_colour(values: np.ndarray) -> np.ndarray:
    axes = tuple(range(2, values.ndim))
    return np.broadcast_to(values.mean(axis=axes, keepdims=True), values.shape)
