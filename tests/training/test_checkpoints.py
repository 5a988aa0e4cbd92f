"""Checkpoints that are whole or not there, and runs of Keras models that go on from them."""

import resource

import numpy as np
import pytest

from bireal_keras._keras import keras
from bireal_keras.training.checkpoints import Checkpoints, Position, restore, state_of


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "model/0000/kernel:0": rng.normal(size=(30, 40)).astype(np.float32),
        "optimizer/0000/iteration:0": np.int64(7),
    }


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def test_what_was_saved_is_loaded(checkpoints, arrays):
    position = Position(stage=1, epoch=12, step=34, figures={"loss": 0.1, "seconds": 5.0})
    path = checkpoints.save(arrays, position)
    assert path.name == "epoch-0012-step-000034.npz"
    loaded, where = checkpoints.load()
    assert where == position
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_the_newest_three_are_kept_in_the_order_of_training(checkpoints, arrays):
    positions = [(0, 9), (0, 10), (1, 0), (1, 100), (9999, 0), (10000, 0)]
    for epoch, step in positions:
        checkpoints.save(arrays, Position(epoch=epoch, step=step))
    assert [path.name for path in checkpoints.paths()] == [
        "epoch-0001-step-000100.npz",
        "epoch-9999-step-000000.npz",
        "epoch-10000-step-000000.npz",
    ]
    assert checkpoints.load()[1].epoch == 10000


def test_without_any_there_is_nothing_to_load(checkpoints):
    assert checkpoints.load() is None
    assert checkpoints.newest() is None


def truncate(content):
    return content[: len(content) // 2]


def flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_file_is_left_for_the_one_before(checkpoints, arrays, damage):
    checkpoints.save(arrays, Position(epoch=1))
    newest = checkpoints.save(arrays, Position(epoch=2))
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=f"Cannot read the checkpoint {newest}"):
        loaded, position = checkpoints.load()
    assert position.epoch == 1
    np.testing.assert_array_equal(loaded["model/0000/kernel:0"], arrays["model/0000/kernel:0"])


@pytest.mark.filterwarnings("ignore:Cannot read")
def test_damaged_files_only_are_an_error(checkpoints, arrays):
    for epoch in (1, 2):
        path = checkpoints.save(arrays, Position(epoch=epoch))
        path.write_bytes(truncate(path.read_bytes()))
    with pytest.raises(ValueError, match=r"None of the checkpoints in .* can be read"):
        checkpoints.load()


def test_a_full_disk_leaves_the_one_before(checkpoints, arrays):
    before = checkpoints.save(arrays, Position(epoch=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow beyond this: the write stops in its middle, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.warns(UserWarning, match=f"cannot write .*The newest is {before}"):
            assert checkpoints.save(arrays, Position(epoch=2)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [*before.parent.iterdir()] == [before]
    assert checkpoints.load()[1].epoch == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(checkpoints, arrays, value):
    arrays["model/0000/kernel:0"][3, 4] = value
    with pytest.warns(UserWarning, match="model/0000/kernel:0 is not finite"):
        assert checkpoints.save(arrays, Position(epoch=2)) is None
    assert checkpoints.paths() == []


def linear_model(units=2, optimizer="adam"):
    dense = keras.layers.Dense(units, input_shape=(3,), name="dense")
    model = keras.Sequential([dense, keras.layers.Softmax()])
    model.compile(keras.optimizers.get(optimizer), "categorical_crossentropy")
    return model


def test_training_goes_on_as_if_it_had_not_stopped(checkpoints):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 3)).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[(images[:, 0] > 0).astype(int)]
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    straight = linear_model()
    straight.fit(images[:32], labels[:32], **fit)
    checkpoints.save(state_of(straight, straight.optimizer), Position(step=4))
    straight.fit(images[32:], labels[32:], **fit)

    resumed = linear_model()
    restore(checkpoints.load()[0], resumed, resumed.optimizer)
    assert int(resumed.optimizer.iterations) == 4
    resumed.fit(images[32:], labels[32:], **fit)
    for expected, weight in zip(straight.get_weights(), resumed.get_weights()):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("other", [{"units": 3}, {"optimizer": "sgd"}])
def test_another_models_checkpoint_is_refused(other):
    model, another = linear_model(), linear_model(**other)
    before = another.get_weights()
    with pytest.raises(ValueError, match=r"another model's or optimizer's: .* has the shape"):
        restore(state_of(model, model.optimizer), another, another.optimizer)
    for expected, weight in zip(before, another.get_weights()):
        np.testing.assert_array_equal(weight, expected)
