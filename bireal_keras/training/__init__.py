"""Training: from a recipe and a dataset to a model, its logs and its figures.

    from bireal_keras import recipes, training

    training.train_and_evaluate(
        recipes.load("mnist_5k"), dataset="mnist_5k", output_dir="runs/digits"
    )

Importing this package does not import TensorFlow; its first use does.
"""

from typing import TYPE_CHECKING

from bireal_keras import _lazy

if TYPE_CHECKING:
    from bireal_keras.training.callbacks import Terminated
    from bireal_keras.training.run import train_and_evaluate

__all__ = ["Terminated", "train_and_evaluate"]

# So that recipes can be read, and `bireal-train --help` answers, at once.
__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "Terminated": "bireal_keras.training.callbacks",
        "train_and_evaluate": "bireal_keras.training.run",
    },
)
