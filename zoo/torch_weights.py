"""Weights from the PyTorch code that Bi-Real Net's authors published.

Their repository, https://github.com/liuzechun/Bi-Real-net, has one code for the nets of 18
and 34 layers and one for that of 50. The names of the layers differ, and so does how the
latent weights of a 1-bit convolution lie in the state dict: as one column, or in PyTorch's
usual (out, in, height, width).
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bireal_keras._keras import keras, lq

_EPSILON = 1e-5  # PyTorch's, in every BatchNorm2d of theirs
_SHOWN = 3  # of the misfits of one kind, in an error


@dataclasses.dataclass(frozen=True)
class _Code:
    """One of the authors' two codes.

    Attributes:
        parts: what a layer of a block is called here, without the block's own name, and there.
        flat: whether the blocks are numbered through the whole net: layers.4, not layer2.0.
        column: whether the latent weights of a 1-bit convolution are one column.
        unused: entries that are created and never used.
    """

    parts: Mapping[str, str]
    flat: bool
    column: bool
    unused: frozenset[str] = frozenset()


_SHORTCUT = {"shortcut_conv": "downsample.1", "shortcut_bn": "downsample.2"}
_CODE_18_34 = _Code(
    parts={"conv": "binary_conv", "bn": "bn1", **_SHORTCUT}, flat=False, column=True
)
_CODE_50 = _Code(
    parts={
        **{f"{kind}{number}": f"{kind}{number}" for kind in ("conv", "bn") for number in (1, 2, 3)},
        "narrow_conv": "down_conv1x1",
        **_SHORTCUT,
    },
    flat=True,
    column=False,
    unused=frozenset({"layers.0.down_conv1x1.weight"}),
)
_CODES = {"BiRealNet18": _CODE_18_34, "BiRealNet34": _CODE_18_34, "BiRealNet50": _CODE_50}
_AROUND_THE_BLOCKS = {"stem_conv": "conv1", "stem_bn": "bn1", "head_fc": "fc"}


def from_torch(checkpoint: str | os.PathLike[str] | Mapping[str, Any], model: keras.Model) -> None:
    """Loads a state dict of the authors' PyTorch code into a model of the same architecture.

    The model then computes what theirs does in evaluation mode, on the same images in
    (batch, height, width, channels) and followed by a softmax. Their BatchNorm2d has the
    epsilon 1e-5. The layers here keep theirs, and the factor gamma makes up for it, exactly:

        gamma = weight * sqrt((running_var + epsilon) / (running_var + 1e-5))

    One difference remains: torch.sign(0) is 0, and here the sign of 0 is +1, for activations
    and latent weights alike. Either is exactly 0 only by accident.

    Latent weights are taken as they are. Theirs are not clipped: training in Keras clips
    those beyond +-1 at its first step.

    Args:
        checkpoint: path of a file that `torch.save` wrote, or a mapping from names to arrays
            or tensors. Either is a state dict or contains one as "state_dict", as the
            authors' training code saves it, and the prefix "module." of a model in
            DataParallel does not matter. From a file nothing but tensors is unpickled
            (`weights_only=True`).
        model: a `BiRealNet18`, `BiRealNet34` or `BiRealNet50` built with padding="torch" and
            pad_values=0. Without the classifier (include_top=False) the state dict's is left out.

    Raises:
        ValueError: the model is another one; the file cannot be read; or entries are
            missing, superfluous or of other shapes. The model is as before.
        ImportError: `checkpoint` is a path, and PyTorch is not installed.

    Example:
        model = BiRealNet18(padding="torch")
        from_torch("model_best.pth.tar", model)
    """
    _check_model(model)
    code = _CODES[model.name]
    state = {k: v for k, v in _state_dict(checkpoint).items() if k not in code.unused}
    entries = {
        layer: _entries(layer, prefix, code.column)
        for layer, prefix in _prefixes(model, code).items()
    }
    if not any(layer.name == "head_fc" for layer in entries):
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}

    expected = {key: shape for shapes in entries.values() for key, shape in shapes.items()}
    values = {key: _to_numpy(state[key]) for key in expected if key in state}
    misfits = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {value.shape} instead of {expected[key]}"
            for key, value in values.items()
            if value.shape != expected[key]
        ],
        "with NaN, infinity or a negative variance": [
            key
            for key, value in values.items()
            if not np.isfinite(value).all() or (key.endswith("running_var") and (value < 0).any())
        ],
    }
    if any(misfits.values()):
        raise ValueError(
            f"`checkpoint` must fit {model.name} with the output shape {model.output_shape}. "
            f"Received entries {_listed(misfits)}."
        )
    for layer, shapes in entries.items():
        layer.set_weights(_weights(layer, [values[key] for key in shapes]))


def _check_model(model: keras.Model) -> None:
    if getattr(model, "name", None) not in _CODES:
        raise ValueError(
            f"`model` must be one of {sorted(_CODES)}. "
            f"Received: model={getattr(model, 'name', model)!r}."
        )
    different = [layer.name for layer in model.layers if not _pads_as_pytorch(layer)]
    if different:
        raise ValueError(
            "`model` must be built with padding='torch', so that strided windows see the same "
            f"pixels as the authors'. Received: a {model.name} with other padding in {different}."
        )
    pad_values = {getattr(layer, "pad_values", 0) for layer in model.layers}
    if pad_values != {0}:
        raise ValueError(
            "`model` must be built with pad_values=0, as the authors pad. "
            f"Received: a {model.name} with pad_values={max(pad_values)}."
        )


def _pads_as_pytorch(layer: keras.layers.Layer) -> bool:
    """Whether "same" padding has as many pixels on every side, as PyTorch's has."""
    if not isinstance(layer, (keras.layers.Conv2D, keras.layers.MaxPool2D)):
        return True
    sizes = layer.input_shape[1:3]
    return layer.strides == (1, 1) or all(size is not None and size % 2 == 1 for size in sizes)


def _state_dict(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a checkpoint that stand for something."""
    state = checkpoint if isinstance(checkpoint, Mapping) else _load(checkpoint)
    if isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(
            "`checkpoint` must be the path of a file or a mapping from names to arrays. "
            f"Received: {type(state).__name__}."
        )
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    # Counts the steps of training; only for a momentum of None.
    return {key: value for key, value in state.items() if not key.endswith(".num_batches_tracked")}


def _load(path: str | os.PathLike[str]) -> Any:
    if not isinstance(path, (str, os.PathLike)) or not os.path.isfile(path):
        raise ValueError(
            "`checkpoint` must be the path of a file or a mapping from names to arrays. "
            f"Received: checkpoint={path!r}, which is not a file."
        )
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ImportError(
            "Reading a checkpoint file needs PyTorch, which is not installed: pip install torch. "
            "A mapping from names to NumPy arrays does without it."
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of something else can raise nearly anything
        # Its text is left out: it goes on to advise to load the file unsafely.
        raise ValueError(
            "`checkpoint` must be a file that torch.load reads with weights_only=True. Received: "
            f"checkpoint={os.fspath(path)!r}, which is damaged or holds more than tensors."
        ) from error


def _prefixes(model: keras.Model, code: _Code) -> dict[keras.layers.Layer, str]:
    """What the authors call each layer of the zoo's that has weights."""
    prefixes = {}
    blocks = {}
    for layer in model.layers:
        block = re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)", layer.name)
        if layer.weights and layer.name in _AROUND_THE_BLOCKS:
            prefixes[layer] = _AROUND_THE_BLOCKS[layer.name]
        elif layer.weights and block:
            blocks[layer] = (int(block[1]), int(block[2]), code.parts[block[3]])
    in_order = sorted({(stage, number) for stage, number, _ in blocks.values()})
    for layer, (stage, number, part) in blocks.items():
        path = (
            f"layers.{in_order.index((stage, number))}"
            if code.flat
            else f"layer{stage}.{number - 1}"
        )
        prefixes[layer] = f"{path}.{part}"
    return prefixes


def _entries(layer: keras.layers.Layer, prefix: str, column: bool) -> dict[str, tuple[int, ...]]:
    """The entries of a state dict that a layer's weights come from, with their shapes."""
    if isinstance(layer, keras.layers.BatchNormalization):
        shape = tuple(layer.gamma.shape)
        return {
            f"{prefix}.{name}": shape for name in ("weight", "bias", "running_mean", "running_var")
        }
    *_, inputs, outputs = layer.kernel.shape
    if isinstance(layer, keras.layers.Dense):
        return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}
    if column and isinstance(layer, lq.layers.QuantConv2D):
        return {f"{prefix}.weights": (layer.kernel.shape.num_elements(), 1)}
    return {f"{prefix}.weight": (outputs, inputs, *layer.kernel_size)}


def _listed(misfits: dict[str, list[str]]) -> str:
    """One line with the first few of every kind."""
    lists = []
    for kind, keys in misfits.items():
        if keys:
            more = len(keys) - _SHOWN
            others = f" and {more:,} more" if more > 0 else ""
            lists.append(f"{kind}: {', '.join(keys[:_SHOWN])}{others}")
    return "; ".join(lists)


def _weights(layer: keras.layers.Layer, values: list[np.ndarray]) -> list[np.ndarray]:
    """From the values of a layer's entries to its weights, in Keras' order and layout."""
    if isinstance(layer, keras.layers.BatchNormalization):
        weight, bias, mean, variance = values
        variance = variance.astype(np.float64)
        gamma = weight * np.sqrt((variance + layer.epsilon) / (variance + _EPSILON))
        return [gamma, bias, mean, variance]
    if isinstance(layer, keras.layers.Dense):
        kernel, bias = values
        return [kernel.T, bias]
    [kernel] = values
    *_, inputs, outputs = layer.kernel.shape
    kernel = kernel.reshape(outputs, inputs, *layer.kernel_size)
    return [kernel.transpose(2, 3, 1, 0)]


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor: one that asks for a gradient is not an array
        value = value.detach().cpu().float()
    return np.asarray(value, np.float32)
