"""The training step against gradients by hand: a softmax regression."""

import subprocess
import sys

import ml_collections
import numpy as np
import pytest

from bireal_keras._keras import keras
from bireal_keras.training.step import create_training_model

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 5)).astype(np.float32)
LABELS = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 8)]


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def regression(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,))
    random = keras.initializers.RandomNormal()
    outputs = keras.layers.Dense(3, "softmax", bias_initializer=random)(inputs)
    return keras.Model(inputs, outputs)


def stage(l2=None, weight=None):
    config = ml_collections.ConfigDict({"optimizer": {} if l2 is None else {"l2": l2}})
    if weight is not None:
        config.distillation = {"weight": weight}
    return config


def step(model, config, teacher=None):
    """Weights and logs after one step of gradient descent with a rate of 1."""
    trained = create_training_model(model, config, teacher)
    trained.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy", metrics=["accuracy"])
    logs = trained.train_on_batch(IMAGES, LABELS, return_dict=True)
    return model.get_weights(), logs


def test_weights_of_images_weigh_their_losses():
    model, weights = regression(), RNG.uniform(0.5, 2, 8).astype(np.float32)
    kernel, bias = model.get_weights()
    trained = create_training_model(model, stage(l2=0.1), None)
    trained.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy", metrics=["accuracy"])
    logs = trained.train_on_batch(IMAGES, LABELS, weights, return_dict=True)

    probabilities = softmax(IMAGES @ kernel + bias)
    slope = weights[:, None] * (probabilities - LABELS) / len(IMAGES)
    new_kernel, new_bias = model.get_weights()
    expected = kernel - IMAGES.T @ slope - 0.1 * kernel
    np.testing.assert_allclose(new_kernel, expected, atol=1e-6)
    np.testing.assert_allclose(new_bias, bias - slope.sum(axis=0), atol=1e-6)
    # The accuracy is that of images.
    right = probabilities.argmax(axis=1) == LABELS.argmax(axis=1)
    assert logs["accuracy"] == pytest.approx(right.mean())


@pytest.mark.slow
@pytest.mark.parametrize("l2", [None, 0.1])
@pytest.mark.parametrize("weight", [None, 0.25, 1.0])
def test_a_step_is_the_formula(l2, weight):
    model, teacher = regression(), None
    kernel, bias = model.get_weights()
    targets = LABELS
    if weight is not None:
        teacher = regression(seed=1)
        teacher_kernel, teacher_bias = teacher.get_weights()
        taught = softmax(IMAGES @ teacher_kernel + teacher_bias)
        targets = (1 - weight) * LABELS + weight * taught
    probabilities = softmax(IMAGES @ kernel + bias)
    slope = (probabilities - targets) / len(IMAGES)

    (new_kernel, new_bias), logs = step(model, stage(l2, weight), teacher)
    decay = (l2 or 0) * kernel  # The bias has none.
    np.testing.assert_allclose(new_kernel, kernel - IMAGES.T @ slope - decay, atol=1e-5)
    np.testing.assert_allclose(new_bias, bias - slope.sum(axis=0), atol=1e-5)
    # The figures are those of the cross-entropy, and accuracy's labels are the true ones.
    loss = -np.mean(np.sum(targets * np.log(probabilities), axis=1))
    assert logs["loss"] == pytest.approx(loss, rel=1e-5)
    right = probabilities.argmax(axis=1) == LABELS.argmax(axis=1)
    assert logs["accuracy"] == pytest.approx(np.mean(right))
    if teacher is not None:
        np.testing.assert_array_equal(teacher.get_weights()[0], teacher_kernel)


def test_a_teacher_does_not_learn():
    """It computes as outside training, with its BatchNorm's statistics, which stay."""
    inputs = keras.Input((5,))
    x = keras.layers.BatchNormalization(
        epsilon=0.0, moving_mean_initializer=keras.initializers.Constant(0.5)
    )(inputs)
    outputs = keras.layers.Dense(3, "softmax", kernel_initializer="random_normal")(x)
    teacher = keras.Model(inputs, outputs)
    before = teacher.get_weights()
    kernel = teacher.layers[-1].kernel.numpy()
    model = regression()
    student_kernel, bias = model.get_weights()

    (new_kernel, _), _ = step(model, stage(weight=1.0), teacher)
    targets = softmax((IMAGES - 0.5) @ kernel)
    slope = (softmax(IMAGES @ student_kernel + bias) - targets) / len(IMAGES)
    np.testing.assert_allclose(new_kernel, student_kernel - IMAGES.T @ slope, atol=1e-5)
    for expected, weight in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_accuracy_is_that_of_the_true_labels():
    """The student is right about all images, and its teacher about none."""
    model, teacher = regression(), regression()
    kernel, bias = model.get_weights()
    right = np.eye(3, dtype=np.float32)[(IMAGES @ kernel + bias).argmax(axis=1)]
    teacher.set_weights([-kernel, -bias])
    trained = create_training_model(model, stage(weight=1.0), teacher)
    trained.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy", metrics=["accuracy"])
    logs = trained.train_on_batch(IMAGES, right, return_dict=True)
    assert logs["accuracy"] == 1.0


# One step on two devices, of a classifier whose loss has no slope: all its inputs are zero.
TWO_DEVICES = """
import numpy as np

from bireal_keras._keras import keras, tf
from bireal_keras.training.step import create_training_model
import ml_collections

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    inputs = keras.Input((5,))
    dense = keras.layers.Dense(3, "softmax", use_bias=False, kernel_initializer="ones")
    model = keras.Model(inputs, dense(inputs))
    stage = ml_collections.ConfigDict({"optimizer": {"l2": 0.125}})
    trained = create_training_model(model, stage, None)
    trained.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy")
batch = np.zeros((4, 5), np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
trained.fit(*batch, batch_size=4, epochs=1, verbose=0)
print(strategy.num_replicas_in_sync, sorted(set(dense.kernel.numpy().ravel().tolist())))
"""


@pytest.mark.slow
def test_several_devices_add_l2_once():
    """w - rate * l2 * w: 1 - 0.125 as on one device."""
    out = subprocess.check_output([sys.executable, "-c", TWO_DEVICES], text=True, timeout=300)
    assert out.splitlines()[-1] == "2 [0.875]"


def test_without_teacher_and_l2_the_model_trains_itself():
    model = regression()
    assert create_training_model(model, stage(), None) is model


def test_a_teacher_is_no_part_of_the_model():
    model, teacher = regression(), regression(seed=1)
    trained = create_training_model(model, stage(weight=1.0), teacher)
    assert len(trained.weights) == len(model.weights) == 2
