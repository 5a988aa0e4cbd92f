"""The speed of the input pipeline, against pipelines whose speed is known."""

import time

import pytest

from bireal_keras import recipes
from bireal_keras._keras import tf
from bireal_keras.training import throughput


def slow_batches(milliseconds, count):
    """Batches of four images, each of which takes that long."""

    def images(_):
        tf.py_function(lambda: time.sleep(milliseconds / 1e3), [], [])
        return tf.zeros((4, 2, 2, 3)), tf.zeros((4, 1))

    return tf.data.Dataset.range(count).map(images)


def test_is_the_speed_of_what_it_measures():
    # Four images take 20 ms or, on a busy machine, a little longer.
    rate = throughput.images_per_second(slow_batches(20, 10**6), seconds=0.5)
    assert 60 < rate <= 200


def test_batches_that_end_sooner_are_measured_until_then():
    start = time.perf_counter()
    assert 60 < throughput.images_per_second(slow_batches(20, 8), seconds=60) <= 200
    assert time.perf_counter() - start < 30


def test_too_few_batches_are_refused():
    with pytest.raises(ValueError, match="`batches` must be more than 3"):
        throughput.images_per_second(slow_batches(1, 3), seconds=1)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_seconds_must_be_positive(seconds):
    with pytest.raises(ValueError, match=f"`seconds` must be positive. .*seconds={seconds}"):
        throughput.images_per_second(slow_batches(1, 10), seconds=seconds)


def test_a_recipes_pipeline():
    config = recipes.load("cifar10")
    assert throughput.measure_pipeline(config, dataset="fake", seconds=0.2) > 0


def test_a_recipe_that_cannot_be_run():
    config = recipes.load("cifar10")
    config.batch_size = 0
    with pytest.raises(ValueError, match="`batch_size` must be a positive int"):
        throughput.measure_pipeline(config, dataset="fake", seconds=0.2)
