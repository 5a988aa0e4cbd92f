"""The argument MODEL of commands that run a `.tflite` file."""

import os

from bireal_keras._checks import near
from bireal_keras.runtime import example
from bireal_keras.training import run_folder


def resolve(argument: str) -> str:
    """The path of the file that is meant.

    Args:
        argument: such a path, the folder of a run, or the name of the example, "cifar10". A file
            of this name is "./cifar10".

    Raises:
        ValueError: it is none of these, or the folder has no such file.
    """
    if argument == example.NAME:
        return example.example_model()
    if os.path.isdir(argument):
        return str(run_folder.open_run(argument).tflite)
    if not os.path.exists(argument):
        raise ValueError(
            f"There is no file or folder {argument}.{near(argument, [example.NAME])} The model "
            f"that comes with the package is called {example.NAME}."
        )
    return argument
