"""How many values activations take before each sign: Bi-Real-18 and a plain 1-bit net.

    python benchmarks/capability.py [--output=docs/capability.png]
    python benchmarks/capability.py --dataset=cifar10 --data_dir=~/tensorflow_datasets

Both networks have the same convolutions; the plain one has no shortcuts. Their weights are
random and their BatchNormalizations fitted to the images: how many values there are to take
does not depend on training. Prints what theory allows and what was seen, and draws what
was seen.
"""

from collections.abc import Callable

import matplotlib
import numpy as np
from absl import flags
from report import print_table

from bireal_keras import capability, zoo
from bireal_keras._keras import keras
from bireal_keras.commands import _cli
from bireal_keras.training import data

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_DATASET = flags.DEFINE_string(
    "dataset", data.MNIST_5K, "What `bireal_keras.training.data.load` takes."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
_IMAGES = flags.DEFINE_integer("images", 2000, "Images to look at.", lower_bound=100)
_OUTPUT = flags.DEFINE_string("output", "docs/capability.png", "The picture to write.")

# Of the first stage: 3x3 convolutions of 32 channels are the paper's example.
_WIDTH = 32
_SIZE = 32
_BLOCKS = (4, 4, 4, 4)
_FITTING_STEPS = 20
_BATCH_SIZE = 50


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    _print_theory()
    keras.utils.set_random_seed(0)
    images = _images()
    seen = {
        "with shortcuts (Bi-Real-18)": _seen(zoo.BiRealNet18, images),
        "without": _seen(zoo.BinaryPlainNet18, images),
    }
    header = ["1-bit convolution", *(f"values seen {name}, median" for name in seen)]
    rows = zip(*([f"{np.median(counts):,.0f}" for counts in layers] for layers in seen.values()))
    print_table(header, [[str(i + 1), *row] for i, row in enumerate(rows)])
    _draw(seen, len(images))
    print(f"{len(images):,} images of {_DATASET.value}. Picture: {_OUTPUT.value}")


def _print_theory() -> None:
    convs = capability.birealnet(_BLOCKS, width=_WIDTH)
    plain = capability.values_per_entry(convs, shortcuts=False)
    with_shortcuts = capability.values_per_entry(convs, shortcuts=True)
    finite = capability.Count.of(capability.finite_values(np.float32))
    print_table(
        ["after 1-bit convolution", "without shortcuts", "with shortcuts", "at most in float32"],
        [
            [str(i + 1), str(n), str(product), str(min(product, finite, key=lambda c: c.log2))]
            for i, (n, product) in enumerate(zip(plain, with_shortcuts))
        ],
    )


def _images() -> np.ndarray:
    split = data.load(_DATASET.value, data_dir=_DATA_DIR.value).train
    batches = data.evaluation_batches(
        split, image_size=_SIZE, num_classes=10, batch_size=_IMAGES.value
    )
    return next(iter(batches))[0].numpy()


def _seen(create: Callable[..., keras.Model], images: np.ndarray) -> list[np.ndarray]:
    model = create(input_shape=(_SIZE, _SIZE, 3), num_classes=10, width=_WIDTH, stem="cifar")
    for step in range(_FITTING_STEPS):
        start = step * _BATCH_SIZE % len(images)
        model(images[start : start + _BATCH_SIZE], training=True)
    return list(capability.distinct_values(model, images).values())


def _draw(seen: dict[str, list[np.ndarray]], images: int) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, layers in seen.items():
        low, median, high = np.transpose([np.percentile(counts, (10, 50, 90)) for counts in layers])
        x = np.arange(1, len(layers) + 1)
        (line,) = axes.plot(x, median, marker="o", label=name)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(images, color="grey", linestyle=":", label=f"one value per image ({images:,})")
    axes.set(
        xlabel="1-bit convolution",
        ylabel="values seen per activation",
        yscale="log",
        xticks=np.arange(1, sum(_BLOCKS) + 1),
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(_OUTPUT.value, dpi=100)


if __name__ == "__main__":
    _cli.run("capability", main, module="__main__", doc=__doc__)
