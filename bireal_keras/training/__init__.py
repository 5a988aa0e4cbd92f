"""Training: from a recipe and a dataset to a model, its logs and its figures.

    from bireal_keras import recipes, training

    training.train_and_evaluate(
        recipes.load("mnist_5k"), dataset="mnist_5k", output_dir="runs/digits"
    )

Importing this package does not import TensorFlow; its first use does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bireal_keras.training.callbacks import Terminated
    from bireal_keras.training.run import train_and_evaluate

__all__ = ["Terminated", "train_and_evaluate"]


def __getattr__(name: str) -> Any:
    # Lazily, so that recipes can be read, and `bireal-train --help` answers, at once.
    if name == "Terminated":
        from bireal_keras.training.callbacks import Terminated

        return Terminated
    if name == "train_and_evaluate":
        from bireal_keras.training.run import train_and_evaluate

        return train_and_evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
