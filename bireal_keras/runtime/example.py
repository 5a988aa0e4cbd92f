"""The model that comes with the package."""

from pathlib import Path

# Commands take this name in place of a file.
NAME = "cifar10"


def example_model() -> str:
    """Path of a small classifier, to try things with: `BiRealNet18(weights="cifar10")`.

    It takes images of 32x32 pixels, tells the ten classes of CIFAR-10 apart, has their names
    inside and 566 kB; docs/cifar10 says how it was trained. A photo that shows none of these
    things is given one of their names all the same.
    """
    return str(Path(__file__).with_name(f"{NAME}.tflite"))
