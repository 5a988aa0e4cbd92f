"""Weights from the PyTorch code that the authors of Bi-Real Net and ReActNet published.

Their repository https://github.com/liuzechun/Bi-Real-net has one code for the nets of 18 and 34
layers and one for that of 50, and https://github.com/liuzechun/ReActNet one for ReActNet-A
(mobilenet/2_step2). The names of the layers differ, and so does how the latent weights of a
1-bit convolution lie in the state dict: as one column, or in PyTorch's usual (out, in, height,
width).
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bireal_keras import blocks
from bireal_keras._keras import keras, lq

_EPSILON = 1e-5  # PyTorch's, in every BatchNorm2d of theirs
_SHOWN = 3  # of the misfits of one kind, in an error


@dataclasses.dataclass(frozen=True)
class _Code:
    """One of the authors' codes.

    Attributes:
        path: what a block is called there, of `stage` and `number` in the stage as here, from 1,
            and `index` in the whole net, from 0.
        parts: what a layer of a block is called here, without the block's own name, and there.
        column: whether the latent weights of a 1-bit convolution are one column.
        around: the same as `parts` for the layers that are in no block.
        first_parts: the same as `parts` for those that a stage's first block has in place of
            them: two layers there, which share the filters of one layer here.
        unused: entries that are created and never used.
    """

    path: Callable[[int, int, int], str]
    parts: Mapping[str, str]
    column: bool
    around: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"stem_conv": "conv1", "stem_bn": "bn1", "head_fc": "fc"}
    )
    first_parts: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    unused: frozenset[str] = frozenset()


_SHORTCUT = {"shortcut_conv": "downsample.1", "shortcut_bn": "downsample.2"}
_CODE_18_34 = _Code(
    path=lambda stage, number, index: f"layer{stage}.{number - 1}",
    parts={"conv": "binary_conv", "bn": "bn1", **_SHORTCUT},
    column=True,
)
_CODE_50 = _Code(
    path=lambda stage, number, index: f"layers.{index}",
    parts={
        **{f"{kind}{number}": f"{kind}{number}" for kind in ("conv", "bn") for number in (1, 2, 3)},
        "narrow_conv": "down_conv1x1",
        **_SHORTCUT,
    },
    column=False,
    unused=frozenset({"layers.0.down_conv1x1.weight"}),
)
_CODE_REACTNET = _Code(
    # feature.0 is the stem.
    path=lambda stage, number, index: f"feature.{index + 1}",
    parts={
        "conv3x3": "binary_3x3",
        "conv1x1": "binary_pw",
        **{
            part.format(size): name.format(number)
            for size, number in (("3x3", 1), ("1x1", 2))
            for part, name in {
                "conv{}_shift": "move{}1",
                "bn{}": "bn{}",
                "prelu{}_shift_in": "move{}2",
                "prelu{}": "prelu{}",
                "prelu{}_shift_out": "move{}3",
            }.items()
        },
    },
    column=True,
    around={"stem_conv": "feature.0.conv1", "stem_bn": "feature.0.bn1", "head_fc": "fc"},
    first_parts={"conv1x1": ("binary_pw_down1", "binary_pw_down2"), "bn1x1": ("bn2_1", "bn2_2")},
)
_CODES = {
    "BiRealNet18": _CODE_18_34,
    "BiRealNet34": _CODE_18_34,
    "BiRealNet50": _CODE_50,
    "ReActNetA": _CODE_REACTNET,
}


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
        model: a `BiRealNet18`, `BiRealNet34`, `BiRealNet50` or `ReActNetA` built with
            padding="torch" and pad_values=0. Without the classifier (include_top=False) the
            state dict's is left out.

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
    # Of each layer here, those of one or two layers there.
    entries = {
        layer: [_entries(layer, prefix, len(prefixes), code.column) for prefix in prefixes]
        for layer, prefixes in _prefixes(model, code).items()
    }
    if not any(layer.name == "head_fc" for layer in entries):
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}

    expected = {
        key: shape
        for parts in entries.values()
        for shapes in parts
        for key, shape in shapes.items()
    }
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
    for layer, parts in entries.items():
        weights = [_weights(layer, [values[key] for key in shapes]) for shapes in parts]
        # Outputs and channels are Keras's last axis.
        layer.set_weights([np.concatenate(arrays, axis=-1) for arrays in zip(*weights)])


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


def _prefixes(model: keras.Model, code: _Code) -> dict[keras.layers.Layer, tuple[str, ...]]:
    """What the authors call each layer of the zoo's that has weights."""
    prefixes: dict[keras.layers.Layer, tuple[str, ...]] = {}
    in_blocks = {}
    for layer in model.layers:
        block = re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)", layer.name)
        if layer.weights and layer.name in code.around:
            prefixes[layer] = (code.around[layer.name],)
        elif layer.weights and block:
            in_blocks[layer] = (int(block[1]), int(block[2]), block[3])
    in_order = sorted({(stage, number) for stage, number, _ in in_blocks.values()})
    for layer, (stage, number, part) in in_blocks.items():
        path = code.path(stage, number, in_order.index((stage, number)))
        names: tuple[str, ...] | None = code.first_parts.get(part) if number == 1 else None
        prefixes[layer] = tuple(f"{path}.{name}" for name in names or (code.parts[part],))
    return prefixes


def _entries(
    layer: keras.layers.Layer, prefix: str, sharing: int, column: bool
) -> dict[str, tuple[int, ...]]:
    """The entries of a state dict that a layer's weights come from, with their shapes.

    Args:
        layer: with weights.
        prefix: of the entries' names.
        sharing: how many layers there share the filters of this one.
        column: whether the latent weights of a 1-bit convolution are one column.
    """
    channels = layer.output_shape[-1] // sharing
    if isinstance(layer, keras.layers.BatchNormalization):
        return {
            f"{prefix}.{name}": (channels,)
            for name in ("weight", "bias", "running_mean", "running_var")
        }
    if isinstance(layer, blocks.ChannelShift):
        return {f"{prefix}.bias": (1, channels, 1, 1)}
    if isinstance(layer, keras.layers.PReLU):
        return {f"{prefix}.weight": (channels,)}
    inputs = layer.input_shape[-1]
    if isinstance(layer, keras.layers.Dense):
        return {f"{prefix}.weight": (channels, inputs), f"{prefix}.bias": (channels,)}
    shape = (channels, inputs, *layer.kernel_size)
    if column and isinstance(layer, lq.layers.QuantConv2D):
        return {f"{prefix}.weights": (math.prod(shape), 1)}
    return {f"{prefix}.weight": shape}


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
    [value] = values
    if isinstance(layer, blocks.ChannelShift):
        return [value.ravel()]
    if isinstance(layer, keras.layers.PReLU):
        return [value.reshape(1, 1, -1)]
    kernel = value.reshape(-1, layer.input_shape[-1], *layer.kernel_size)
    return [kernel.transpose(2, 3, 1, 0)]


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor: one that asks for a gradient is not an array
        value = value.detach().cpu().float()
    return np.asarray(value, np.float32)
