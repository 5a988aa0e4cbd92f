"""A training step of BiRealNet18 takes no longer than one of larq-zoo's: `make test-peers`."""

import importlib
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from bireal_keras._keras import keras, tf
from bireal_keras.zoo import BiRealNet18

BATCH_SIZE = 16
ROUNDS = 10


def step_of(model: keras.Model):
    """A function that trains the model for one step, on random images of 224x224."""
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy")
    random = np.random.default_rng(0)
    images = tf.constant(random.normal(size=(BATCH_SIZE, 224, 224, 3)), tf.float32)
    labels = tf.one_hot(random.integers(0, 1000, BATCH_SIZE), 1000)
    return lambda: model.train_on_batch(images, labels)


def test_training_step(monkeypatch):
    folder = Path(__file__).parents[3] / "_build/peers/larq_zoo"
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    larq_zoo = importlib.import_module("larq_zoo")
    steps = [step_of(BiRealNet18()), step_of(larq_zoo.literature.BiRealNet(weights=None))]
    times: list[list[float]] = [[], []]
    for index in range(ROUNDS + 2):  # The first two are for tracing and for warmth.
        for step, seconds in zip(steps, times):
            start = time.perf_counter()
            step()
            if index >= 2:
                seconds.append(time.perf_counter() - start)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*times))
    print(f"a step of {BATCH_SIZE} images takes {ratio:.3f} times as long as larq-zoo's")
    assert ratio <= 1
