"""What a training step minimizes beyond the cross-entropy of the labels."""

from collections.abc import Callable

import ml_collections
import numpy as np

from bireal_keras._keras import keras, tf

# From images in [-1, 1] to class probabilities.
Teacher = Callable[[tf.Tensor], tf.Tensor]


class TrainingModel(keras.Model):
    """A functional model with a training step of its own: `TrainingModel(inputs, outputs)`.

    The step is Keras's but for two things, both of which leave the figures alone that are
    printed and logged as accuracy:

    - the labels that the loss sees are mixed with a teacher's probabilities:
      (1 - weight) * labels + weight * teacher(images). With weight 1 that is ReActNet's
      distributional loss (Liu et al., ECCV 2020, arXiv:2003.03488);
    - l2 * w is added to the gradient of each kernel w of a convolution or dense layer.

    Set both with `prepare` before `compile`.
    """

    def prepare(self, *, teacher: Teacher | None, teacher_weight: float, l2: float) -> None:
        # Wrapped, since a model in an attribute would become a part of this one.
        self._teacher = None if teacher is None else lambda images: teacher(images)
        self._teacher_weight = teacher_weight
        self._l2 = l2
        self._decayed = {
            layer.kernel.ref() for layer in self.layers if l2 and hasattr(layer, "kernel")
        }

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        targets = labels
        if self._teacher is not None:
            taught = tf.stop_gradient(self._teacher(images))
            targets = labels + self._teacher_weight * (taught - labels)
        with tf.GradientTape() as tape:
            probabilities = self(images, training=True)
            loss = self.compute_loss(images, targets, probabilities, weights)
        variables = self.trainable_variables
        gradients = self.optimizer.compute_gradients(loss, variables, tape)
        # Every replica adds its part, and the optimizer sums the parts up.
        l2 = self._l2 / tf.distribute.get_strategy().num_replicas_in_sync
        self.optimizer.apply_gradients(
            (gradient + l2 * variable if variable.ref() in self._decayed else gradient, variable)
            for gradient, variable in gradients
        )
        return self.compute_metrics(images, labels, probabilities, weights)


def create_training_model(
    model: keras.Model, stage: ml_collections.ConfigDict, teacher: keras.Model | None
) -> keras.Model:
    """The model that trains a stage: `model` itself, or a `TrainingModel` of its layers."""
    l2 = stage.optimizer.get("l2", 0.0)
    if teacher is None and not l2:
        return model
    training_model = TrainingModel(model.inputs, model.outputs, name=model.name)
    training_model.prepare(
        teacher=None if teacher is None else lambda images: teacher(images, training=False),
        teacher_weight=stage.get("distillation", {}).get("weight", 1.0),
        l2=l2,
    )
    return training_model


def check_teacher(teacher: keras.Model, model: keras.Model, name: str) -> None:
    """Checks that a teacher takes the student's images and ends in probabilities of its classes.

    Raises:
        ValueError: it does not.
    """
    size = model.input_shape[1:]
    given = teacher.input_shape
    takes_size = len(given) == 4 and all(g in (None, s) for g, s in zip(given[1:], size))
    if not takes_size:
        raise ValueError(
            f"The teacher {name} must take images of the shape {size}. It takes {given[1:]}."
        )
    if teacher.output_shape != model.output_shape:
        raise ValueError(
            f"The teacher {name} must end in probabilities of the same {model.output_shape[-1]} "
            f"classes as {model.name}. Its output has the shape {teacher.output_shape}."
        )
    images = np.random.default_rng(0).uniform(-1, 1, (2, *size)).astype(np.float32)
    outputs = np.asarray(teacher(images, training=False))
    if not (np.all(outputs >= 0) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)):
        raise ValueError(
            f"The teacher {name} must end in probabilities, as after a softmax. Its outputs "
            "are negative or do not sum to 1."
        )
