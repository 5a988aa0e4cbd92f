"""Bi-Real Nets and what to compare them with, ready to build: `bireal_keras.zoo.BiRealNet18()`."""

import inspect
from typing import Any

from bireal_keras._checks import near
from bireal_keras._keras import keras
from bireal_keras.zoo import _registry
from bireal_keras.zoo.ablationnet import AblationNet18 as AblationNet18
from bireal_keras.zoo.binarydensenet import (
    BinaryDenseNet28,
    BinaryDenseNet37,
    BinaryDenseNet45,
)
from bireal_keras.zoo.binarynet import (
    BinaryPlainNet18,
    BinaryPlainNet34,
    BinaryResNet18,
    BinaryResNet34,
)
from bireal_keras.zoo.birealnet import (
    BiRealNet18,
    BiRealNet18Float,
    BiRealNet34,
    BiRealNet34Float,
    BiRealNet50,
    BiRealNet50Float,
    BiRealNet152,
    BiRealNet152Float,
)
from bireal_keras.zoo.imagenet import decode_predictions
from bireal_keras.zoo.meliusnet import MeliusNet22
from bireal_keras.zoo.quicknet import QuickNet, QuickNetLarge, QuickNetSmall
from bireal_keras.zoo.reactnet import (
    ReActBiRealNet18,
    ReActBiRealNet34,
    ReActNetA,
)
from bireal_keras.zoo.realtobinary import RealToBinaryNet
from bireal_keras.zoo.torch_weights import from_torch
from bireal_keras.zoo.xnornet import (
    XNORResNet18,
    XNORResNet34,
)


def list_models(*, pretrained: bool = False) -> list[str]:
    """Names of the networks that `create_model` builds.

    Args:
        pretrained: whether to name only those whose weights are published, so that
            `weights="imagenet"` loads them.
    """
    return sorted(
        name
        for name, entry in _registry.MODELS.items()
        if entry.is_listed and (not pretrained or ("imagenet", True) in entry.weights)
    )


def create_model(name: str, **kwargs: Any) -> keras.Model:
    """Builds a model by name: `create_model("BiRealNet18", num_classes=10)`.

    Args:
        name: one of `list_models()`, or "AblationNet18".
        **kwargs: the arguments of the function of that name.

    Raises:
        ValueError: no model has that name, or it does not take one of the arguments.
    """
    entry = _registry.MODELS.get(name)
    if entry is None:
        raise ValueError(
            f"`name` must be one of {list_models()}. Received: name={name!r}."
            f"{near(name, list_models())}"
        )
    try:
        inspect.signature(entry.build).bind(**kwargs)
    except TypeError as error:
        raise ValueError(f"{name}: {error}.") from error
    return entry.build(**kwargs)


__all__ = [
    "BiRealNet18",
    "BiRealNet18Float",
    "BiRealNet34",
    "BiRealNet34Float",
    "BiRealNet50",
    "BiRealNet50Float",
    "BiRealNet152",
    "BiRealNet152Float",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet45",
    "BinaryPlainNet18",
    "BinaryPlainNet34",
    "BinaryResNet18",
    "BinaryResNet34",
    "MeliusNet22",
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "ReActBiRealNet18",
    "ReActBiRealNet34",
    "ReActNetA",
    "RealToBinaryNet",
    "XNORResNet18",
    "XNORResNet34",
    "create_model",
    "decode_predictions",
    "from_torch",
    "list_models",
]


def __dir__() -> list[str]:
    return sorted(__all__)
