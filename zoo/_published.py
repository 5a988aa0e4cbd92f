"""Trained weights that have a name: where they lie, and which models take them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bireal_keras.tflite.metadata import Normalization
from bireal_keras.zoo import _download, imagenet


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights of one model.

    Attributes:
        url: of an HDF5 file that `model.load_weights` reads; without "://", the name of a file
            in this package's folder `weights`.
        sha256: of that file.
        arguments: what the model has to be built with.
        normalization: which images they want.
        dataset: what it was trained on.
        top1, top5: accuracy of the whole model on the dataset's validation set, in percent, as
            the source states it; None where it does not.
        source: who published them, and where it says so.
        licence: SPDX identifier.
    """

    url: str
    sha256: str
    arguments: Mapping[str, Any]
    normalization: Normalization
    dataset: str
    top1: float
    top5: float | None
    source: str
    licence: str


def larq_zoo(
    *,
    top: tuple[str, str],
    notop: tuple[str, str],
    top1: float,
    top5: float,
    width: int = 64,
    pad_values: int = 0,
) -> dict[tuple[str, bool], Published]:
    """The weights "imagenet" of a model, as larq-zoo 2.4 downloads them.

    The model has the same layers in the same order, by which Keras assigns the arrays of a
    file; the layers' names are others.

    Args:
        top, notop: (release and name, SHA-256) of the file for the model with and without the
            classifier.
        top1, top5: accuracy on ImageNet in percent, as Larq Zoo states.
        width, pad_values: of the model.
    """
    arguments = {"width": width, "stem": "imagenet", "pad_values": pad_values, "padding": "same"}
    return {
        ("imagenet", include_top): Published(
            url=f"https://github.com/larq/zoo/releases/download/{file}",
            sha256=sha256,
            arguments={**arguments, "num_classes": 1000} if include_top else arguments,
            normalization=imagenet.NORMALIZATION,
            dataset="ImageNet",
            top1=top1,
            top5=top5,
            source="literature: Larq Zoo (https://docs.larq.dev/zoo/)",
            licence="Apache-2.0",
        )
        for include_top, (file, sha256) in ((True, top), (False, notop))
    }


# Of `BiRealNet18`, by name and include_top.
BIREALNET18 = {
    **larq_zoo(
        top=(
            "birealnet-v0.3.0/birealnet_weights.h5",
            "6e6efac1584fcd60dd024198c87f42eb53b5ec719a5ca1f527e1fe7e8b997117",
        ),
        notop=(
            "birealnet-v0.3.0/birealnet_weights_notop.h5",
            "5148b61c0c2a1094bdef811f68bf4957d5ba5f83ad26437b7a4a6855441ab46b",
        ),
        top1=57.47,
        top5=79.84,
    ),
    # The run of the recipe cifar10_staged in docs/cifar10, packed by tools/pack_weights.py.
    ("cifar10", True): Published(
        url="birealnet18_cifar10.h5",
        sha256="f37f8e8069b03117439ee4012bd9e74e3a8e706df1c2af58e39c1f4ac8bef756",
        arguments={
            "num_classes": 10,
            "width": 32,
            "stem": "cifar",
            "pad_values": 0,
            "padding": "same",
        },
        normalization=Normalization(),
        dataset="CIFAR-10",
        top1=87.08,
        top5=None,
        source="measured, benchmarks/cifar10.py",
        licence="Apache-2.0",
    ),
}


def whole(
    published: Mapping[tuple[str, bool], Published], arguments: Mapping[str, Any]
) -> Published | None:
    """The weights of the network with its head, where those without it have no file of their own.

    Args:
        published, arguments: as of `resolve`. None is the answer to arguments that ask for the
            network with its head.
    """
    name = str(arguments.get("weights"))
    if arguments.get("include_top", True) or (name, False) in published:
        return None
    return published.get((name, True))


def resolve(
    published: Mapping[tuple[str, bool], Published], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """From the name of weights to the path of their file, with the arguments that they bring.

    Args:
        published: the weights of a model, by name and include_top.
        arguments: what the model's function is called with. If `weights` is not a name in
            `published`, they stay as they are; a file of the same name is "./imagenet".

    Raises:
        ValueError: the weights do not fit the other arguments, or the file is not the
            published one.
        OSError: the file cannot be downloaded.
    """
    weights, include_top = arguments.get("weights"), bool(arguments.get("include_top", True))
    record = published.get((str(weights), include_top)) or whole(published, arguments)
    if record is None:
        return dict(arguments)
    others = [
        name
        for name, value in record.arguments.items()
        if arguments.get(name, value) != value and (include_top or name != "num_classes")
    ]
    if others:
        wanted, received = (
            ", ".join(f"{name}={values[name]!r}" for name in others)
            for values in (record.arguments, arguments)
        )
        raise ValueError(f"`weights`={weights!r} are published for {wanted}. Received: {received}.")
    if "://" in record.url:
        path = _download.fetch(record.url, sha256=record.sha256)
    else:
        path = Path(__file__).with_name("weights") / record.url
    return {**record.arguments, **arguments, "weights": path}
