"""Makes the model that comes with the package of the weights that do.

Usage: make_example.py [FILE]

Writes BiRealNet18(weights="cifar10"), with the names of CIFAR-10's classes, to FILE, or else to
where `runtime.example_model()` finds it. The same weights give the same file.
"""

import sys
from pathlib import Path

from bireal_keras import export, zoo
from bireal_keras.commands import _cli
from bireal_keras.runtime import example_model

# In the dataset's order; see docs/cifar10.
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def make(path: Path) -> export.Report:
    """Writes the file, which `export.convert` has compared with Keras."""
    model = zoo.BiRealNet18(input_shape=(32, 32, 3), weights="cifar10")
    return export.convert(model, path, labels=CLASSES)


def main(args: list[str]) -> None:
    if len(args) > 1:
        raise ValueError("takes at most the path of the file to write.")
    print(make(Path(args[0] if args else example_model())))


if __name__ == "__main__":
    sys.exit(_cli.run("make_example", main, module="__main__", doc=__doc__))
