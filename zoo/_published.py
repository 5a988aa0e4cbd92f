"""Trained weights that have a name: where they lie, and which models take them."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bireal_keras.zoo import _download


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights of one model.

    Attributes:
        url: of an HDF5 file that `model.load_weights` reads; without "://", the name of a file
            in this package's folder `weights`.
        sha256: of that file.
        arguments: what the model has to be built with.
        dataset: what it was trained on.
        top1, top5: accuracy of the whole model on the dataset's validation set, in percent, as
            the source states it; None where it does not.
        source: who published them, and where it says so.
        licence: SPDX identifier.
    """

    url: str
    sha256: str
    arguments: Mapping[str, Any]
    dataset: str
    top1: float
    top5: float | None
    source: str
    licence: str


def _larq_zoo(file: str, sha256: str, **arguments: Any) -> Published:
    return Published(
        url=f"https://github.com/larq/zoo/releases/download/birealnet-v0.3.0/{file}",
        sha256=sha256,
        arguments={"width": 64, "stem": "imagenet", "pad_values": 0, "padding": "same"} | arguments,
        dataset="ImageNet",
        top1=57.47,
        top5=79.84,
        source="literature: Larq Zoo (https://docs.larq.dev/zoo/)",
        licence="Apache-2.0",
    )


# (model, name, include_top): weights. Larq Zoo's BiRealNet has the layers of BiRealNet18 in the
# same order, by which Keras assigns the arrays of a file; its layers' names are others.
PUBLISHED = {
    ("BiRealNet18", "imagenet", True): _larq_zoo(
        "birealnet_weights.h5",
        "6e6efac1584fcd60dd024198c87f42eb53b5ec719a5ca1f527e1fe7e8b997117",
        num_classes=1000,
    ),
    ("BiRealNet18", "imagenet", False): _larq_zoo(
        "birealnet_weights_notop.h5",
        "5148b61c0c2a1094bdef811f68bf4957d5ba5f83ad26437b7a4a6855441ab46b",
    ),
    # The run of the recipe cifar10_staged in docs/cifar10, packed by tools/pack_weights.py.
    ("BiRealNet18", "cifar10", True): Published(
        url="birealnet18_cifar10.h5",
        sha256="904f77afed007f7ea16a89083665bf201fda84ae214af200f9741875c087cba7",
        arguments={
            "num_classes": 10,
            "width": 32,
            "stem": "cifar",
            "pad_values": 0,
            "padding": "same",
        },
        dataset="CIFAR-10",
        top1=84.25,
        top5=None,
        source="measured, benchmarks/cifar10.py",
        licence="Apache-2.0",
    ),
}


def resolve(
    weights: str | os.PathLike[str] | None, model: str, *, include_top: bool, **arguments: Any
) -> str | os.PathLike[str] | None:
    """From the name of weights to the path of their file; all else stays as it is.

    Args:
        weights: the argument `weights` of a model function. A file of the same name as
            published weights is "./imagenet".
        model: name of the model function.
        include_top, **arguments: what else it was called with.

    Raises:
        ValueError: the weights fit no such model, or the file is not the published one.
        OSError: the file cannot be downloaded.
    """
    published = PUBLISHED.get((model, str(weights), bool(include_top)))
    if published is None and str(weights) in names(model):
        raise ValueError(
            f"`weights`={weights!r} are published for include_top={not include_top}. "
            f"Received: include_top={include_top}."
        )
    if published is None:
        return weights
    for name, value in published.arguments.items():
        if arguments[name] != value:
            raise ValueError(
                f"`weights`={weights!r} are published for {name}={value!r}. "
                f"Received: {name}={arguments[name]!r}."
            )
    if "://" not in published.url:
        return Path(__file__).with_name("weights") / published.url
    return _download.fetch(published.url, sha256=published.sha256)


def names(model: str) -> list[str]:
    """Names that `resolve` knows for a model."""
    return sorted({name for published_for, name, _ in PUBLISHED if published_for == model})
