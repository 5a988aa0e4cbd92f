"""The models that the stages of a recipe train."""

import ml_collections

from bireal_keras import _keras_model, zoo
from bireal_keras._keras import keras


def create_model(stage: ml_collections.ConfigDict, class_names: tuple[str, ...]) -> keras.Model:
    """Builds a stage's model for images of a dataset, with initial weights from its seed.

    Raises:
        ValueError: the zoo has no such model, or it does not end in one probability for
            each of `class_names`.
    """
    arguments = dict(stage.model)
    if arguments["num_classes"] != len(class_names):
        some = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
        raise ValueError(
            "The recipe's `model.num_classes` must be the dataset's number of classes, "
            f"{len(class_names)} ({some}). Received: {arguments['num_classes']}."
        )
    size = stage.dataset.image_size
    keras.utils.set_random_seed(stage.seed)
    model = zoo.create_model(arguments.pop("name"), input_shape=(size, size, 3), **arguments)
    if model.output_shape != (None, len(class_names)):
        raise ValueError(
            "The recipe's model must end in class probabilities. "
            f"Received a model with the output shape {model.output_shape}."
        )
    return model if stage.binary_weights else _keras_model.with_real_kernels(model)
