"""Learning rates against the formulas they stand for."""

import ml_collections
import numpy as np
import pytest

from bireal_keras._keras import keras
from bireal_keras.training import optimizers

STEPS = 5


def config(schedule, epochs=4, **optimizer):
    return ml_collections.ConfigDict(
        {
            "optimizer": {"name": "adam", "learning_rate": 0.5, **optimizer},
            "schedule": schedule,
            "epochs": epochs,
        }
    )


def learning_rates(config):
    """What the optimizer used at each step of a training run."""
    optimizer = optimizers.create_optimizer(config, STEPS)
    weight = keras.backend.variable(1.0)
    rates = []
    for _ in range(config.epochs * STEPS):
        optimizer.apply_gradients([(keras.backend.variable(1.0), weight)])
        rates.append(float(keras.backend.get_value(optimizer.learning_rate)))
    return np.array(rates)


STEP = np.arange(4 * STEPS)
EPOCH = STEP // STEPS


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, np.full(4 * STEPS, 0.5)),
        ({"name": "cosine"}, 0.25 * (1 + np.cos(np.pi * STEP / 20))),
        (
            {"name": "cosine", "warmup_epochs": 1},
            np.where(EPOCH < 1, 0.5 * STEP / 5, 0.25 * (1 + np.cos(np.pi * (STEP - 5) / 15))),
        ),
        ({"name": "linear"}, 0.5 * (1 - STEP / 20)),
        ({"name": "linear", "interval": "epoch"}, 0.5 * (1 - (EPOCH + 1) / 4)),
        (
            {"name": "step", "milestones": (2 / 4, 3 / 4)},
            0.5 * 0.1 ** np.array([0, 0, 1, 2])[EPOCH],
        ),
        ({"name": "step", "milestones": (1 / 4,), "factor": 0.5}, np.where(EPOCH < 1, 0.5, 0.25)),
    ],
    ids=str,
)
def test_schedules_are_their_formulas(schedule, expected):
    np.testing.assert_allclose(learning_rates(config(schedule)), expected, atol=1e-7)


@pytest.mark.parametrize("epochs", [1, 3])
def test_with_an_interval_of_epochs_the_last_one_has_a_rate_of_zero(epochs):
    rates = learning_rates(config({"name": "linear", "interval": "epoch"}, epochs))
    assert (rates[-STEPS:] == 0).all()
    assert (rates[:-STEPS] > 0).all()


def test_no_milestones_is_no_step():
    rates = learning_rates(config({"name": "step", "milestones": ()}))
    np.testing.assert_allclose(rates, 0.5)


def test_sgd_takes_kerass_arguments():
    optimizer = optimizers.create_optimizer(
        config({"name": "constant"}, name="sgd", momentum=0.9), STEPS
    )
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert optimizer.momentum == 0.9


@pytest.mark.parametrize(
    ("schedule", "optimizer", "message"),
    [
        ({"name": "cosin"}, {}, r"`schedule.name` must be one of .*'cosine'.*'cosin'"),
        ({"name": "cosine", "warmup": 1}, {}, r"`schedule`: .*warmup"),
        ({"name": "cosine", "warmup_epochs": 4}, {}, r"`schedule.warmup_epochs`.*\[0, 4\)"),
        ({"name": "linear", "interval": "day"}, {}, r"`schedule.interval`.*'day'"),
        ({"name": "step"}, {}, r"`schedule`: .*milestones"),
        ({"name": "step", "milestones": (0.5, 0.2)}, {}, r"`schedule.milestones`.*\(0.5, 0.2\)"),
        ({"name": "step", "milestones": (3,)}, {}, r"`schedule.milestones`.*\(0, 1\).*\(3,\)"),
        ({"name": "constant"}, {"name": "lion"}, r"`optimizer.name` must be one of .*'lion'"),
        ({"name": "constant"}, {"momentun": 0.9}, r"`optimizer`: .*momentun"),
        # A run that is resumed would not end with the weights it would have had.
        ({"name": "constant"}, {"use_ema": True}, r"`optimizer.use_ema` must be False.*resumed"),
    ],
)
def test_bad_fields_are_named(schedule, optimizer, message):
    with pytest.raises(ValueError, match=message):
        optimizers.create_optimizer(config(schedule, **optimizer), STEPS)
