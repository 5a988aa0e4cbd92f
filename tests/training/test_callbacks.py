"""What happens between the steps of training."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from bireal_keras._keras import keras
from bireal_keras.training import callbacks, checkpoints
from bireal_keras.training.checkpoints import Position


@pytest.fixture
def saved(tmp_path):
    return checkpoints.Checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def model():
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    return model


class TestTerminationRequest:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_is_noted(self, number):
        before = signal.getsignal(number)
        with callbacks.TerminationRequest() as request:
            assert request.received is None
            os.kill(os.getpid(), number)
            assert request.received is number
        assert signal.getsignal(number) is before

    def test_a_second_ctrl_c_interrupts(self):
        with callbacks.TerminationRequest() as request:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert request.received is signal.SIGINT

    def test_a_thread_that_may_not_listen_does_not(self):
        requests = []

        def enter():
            with callbacks.TerminationRequest() as request:
                requests.append(request.received)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert requests == [None]


class TestStopOnInvalidLoss:
    @pytest.mark.parametrize("loss", [np.nan, np.inf])
    def test_stops(self, saved, model, loss):
        callback = callbacks.StopOnInvalidLoss(saved)
        callback.set_model(model)
        model.optimizer.iterations.assign(42)
        with pytest.raises(FloatingPointError, match=r"at step 42\. The last good .* is none\."):
            callback.on_train_batch_end(0, {"loss": loss})

    def test_goes_on(self, saved, model):
        callback = callbacks.StopOnInvalidLoss(saved)
        callback.set_model(model)
        callback.on_train_batch_end(0, {"loss": 1e30})


def figures(start=None, *, model, stage=None, steps=10):
    callback = callbacks.EpochFigures(
        start or Position(), steps=steps, epochs=3, stage=stage, print_them=True
    )
    callback.set_model(model)
    return callback


class TestEpochFigures:
    def test_an_epoch_is_one_line(self, model, capsys):
        callback = figures(model=model)
        callback.on_epoch_begin(1)
        logs = {"loss": 0.5, "val_loss": 0.75}
        callback.on_epoch_end(1, logs)
        assert logs["learning_rate"] == 0.25
        assert (logs["loss"], logs["val_loss"]) == (0.5, 0.75)
        seconds = f"{logs['seconds']:.4g}"
        assert capsys.readouterr().out == (
            f"epoch 2/3: loss 0.5, val_loss 0.75, learning_rate 0.25, seconds {seconds}\n"
        )

    def test_a_resumed_epoch_counts_what_came_before(self, model):
        start = Position(epoch=1, step=4, figures={"loss": 1.0, "seconds": 100.0})
        callback = figures(start, model=model)
        callback.on_epoch_begin(1)
        logs = {"loss": 0.5}
        callback.on_epoch_end(1, logs)
        # Four steps of 1.0 and six of 0.5.
        assert logs["loss"] == pytest.approx(0.7)
        assert 100 <= logs["seconds"] < 110
        callback.on_epoch_begin(2)
        logs = {"loss": 0.5}
        callback.on_epoch_end(2, logs)
        assert logs["loss"] == 0.5
        assert logs["seconds"] < 10

    def test_names_the_stage(self, model, capsys):
        callback = figures(model=model, stage=(2, "2/3 clip"))
        callback.on_epoch_begin(0)
        logs = {"loss": 0.5}
        callback.on_epoch_end(0, logs)
        assert logs["stage"] == 2
        assert capsys.readouterr().out.startswith("stage 2/3 clip, epoch 1/3: loss 0.5, ")

    def test_a_long_epoch_says_every_minute_how_far_it_is(self, model, capsys, monkeypatch):
        now = [1000.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        callback = figures(model=model, steps=2000)
        callback.on_epoch_begin(0)
        for batch in range(100):
            now[0] += 1.0
            callback.on_train_batch_end(batch, {"loss": 0.5})
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("epoch 1/3, step 60 of 2,000: loss 0.5, seconds ")
        now[0] += 70
        callback.on_test_batch_end(6, {"loss": 0.25})
        callback.on_test_batch_end(7, {"loss": 0.25})
        assert capsys.readouterr().out == "epoch 1/3, validation, batch 7: loss 0.25\n"


class TestKeepBest:
    def offer(self, best, model, epoch, accuracy):
        model.set_weights([np.full_like(weight, epoch) for weight in model.get_weights()])
        callback = callbacks.KeepBest(best)
        callback.set_model(model)
        callback.on_epoch_end(epoch, {"val_accuracy": accuracy})

    def test_the_first_of_the_best_stays(self, model, tmp_path):
        best = checkpoints.BestEpoch(tmp_path, 0, writes=True)
        for epoch, accuracy in enumerate((0.25, 0.75, 0.5, 0.75)):
            self.offer(best, model, epoch, accuracy)
        for kept in (best, checkpoints.BestEpoch(tmp_path, 0, writes=True)):
            assert (kept.epoch, kept.accuracy) == (1, 0.75)
            assert [weight.flat[0] for weight in kept.weights] == [1, 1]
            assert [weight.shape for weight in kept.weights] == [(2, 1), (1,)]

    def test_another_stage_starts_anew(self, model, tmp_path):
        self.offer(checkpoints.BestEpoch(tmp_path, 0, writes=True), model, 3, 0.75)
        best = checkpoints.BestEpoch(tmp_path, 1, writes=True)
        assert best.epoch is None
        self.offer(best, model, 4, 0.5)
        assert best.epoch == 4
        assert checkpoints.BestEpoch(tmp_path, 1, writes=True).epoch == 4
        # Killed before the other stage's first checkpoint, a run is resumed in this one.
        assert checkpoints.BestEpoch(tmp_path, 0, writes=True).epoch == 3

    def test_one_machine_writes_and_all_remember(self, model, tmp_path):
        best = checkpoints.BestEpoch(tmp_path, 0, writes=False)
        self.offer(best, model, 3, 0.75)
        assert best.epoch == 3
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_file_is_no_best(self, model, tmp_path):
        self.offer(checkpoints.BestEpoch(tmp_path, 0, writes=True), model, 3, 0.75)
        path = tmp_path / "best.npz"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.warns(UserWarning, match=f"Cannot read the best epoch, {path}: "):
            best = checkpoints.BestEpoch(tmp_path, 0, writes=True)
        assert best.epoch is None

    def test_it_is_no_checkpoint(self, model, saved):
        self.offer(checkpoints.BestEpoch(saved.folder, 0, writes=True), model, 3, 0.75)
        assert saved.paths() == []
        assert saved.load() is None


class TestStopEarly:
    @pytest.mark.parametrize(
        ("accuracies", "epochs", "stops"),
        [
            ((0.5, 0.6, 0.6, 0.5, 0.7), 4, True),
            ((0.5, 0.4, 0.6, 0.5, 0.7), 5, False),
            ((0.5, 0.4, 0.3), 3, True),
        ],
    )
    def test_after_so_many_epochs_without_a_better_one(
        self, model, tmp_path, capsys, accuracies, epochs, stops
    ):
        best = checkpoints.BestEpoch(tmp_path, 0, writes=True)
        keep = callbacks.KeepBest(best)
        stop = callbacks.StopEarly(best, 2, print_it=True)
        for callback in (keep, stop):
            callback.set_model(model)
        trained = 0
        for epoch, accuracy in enumerate(accuracies):
            for callback in (keep, stop):
                callback.on_epoch_end(epoch, {"val_accuracy": accuracy})
            trained += 1
            if model.stop_training:
                break
        assert trained == epochs
        assert model.stop_training == stops
        said = f"stopped after epoch {epochs}: none of the last 2 had a higher validation accuracy"
        assert (said in capsys.readouterr().out) == stops


def test_a_users_callbacks_come_before_the_checkpoint(saved, tmp_path):
    mine = keras.callbacks.Callback()
    best = checkpoints.BestEpoch(tmp_path, 0, writes=True)
    options = {"steps": 1, "epochs": 1, "every_seconds": None, "every_steps": None, "writes": True}
    options |= {"request": callbacks.TerminationRequest(), "alone": True}
    made = callbacks.create(
        tmp_path, saved, Position(), best=best, patience=2, others=[mine], **options
    )
    assert [type(callback) for callback in made[-4:-2]] == [callbacks.KeepBest, callbacks.StopEarly]
    assert made[-2] is mine
    assert type(made[-1]) is callbacks.SaveCheckpoints


def test_what_is_kept_is_offered_before_the_epoch_has_its_checkpoint(saved, tmp_path):
    best = checkpoints.BestEpoch(tmp_path, 0, writes=True)
    options = {"steps": 1, "epochs": 1, "every_seconds": None, "every_steps": None, "writes": True}
    options |= {"request": callbacks.TerminationRequest(), "alone": True}
    kinds = [
        type(callback)
        for callback in callbacks.create(tmp_path, saved, Position(), best=best, **options)
    ]
    assert kinds[-2:] == [callbacks.KeepBest, callbacks.SaveCheckpoints]
    without = callbacks.create(tmp_path, saved, Position(), **options)
    assert [type(callback) for callback in without] == [*kinds[:-2], kinds[-1]]


class TestSaveCheckpoints:
    def run(self, saved, model, *, steps=10, request=None, alone=True, writes=True, **when):
        """An epoch of ten steps; returns the steps after which it saved."""
        start = Position(stage=1, epoch=2)
        shared = callbacks.EpochFigures(start, steps=steps, epochs=3, stage=None, print_them=False)
        callback = callbacks.SaveCheckpoints(
            saved,
            start,
            shared,
            steps=steps,
            request=request or callbacks.TerminationRequest(),
            alone=alone,
            writes=writes,
            **{"every_seconds": None, "every_steps": None, **when},
        )
        for each in (shared, callback):
            each.set_model(model)
            each.on_epoch_begin(2)
        steps_saved = []
        save = saved.save

        def noting(arrays, position):
            steps_saved.append((position.stage, position.epoch, position.step))
            return save(arrays, position)

        saved.save = noting
        for batch in range(steps):
            callback.on_train_batch_end(batch, {"loss": 0.5})
        callback.on_epoch_end(2, {"loss": 0.5})
        return steps_saved

    def test_after_an_epoch(self, saved, model):
        assert self.run(saved, model) == [(1, 3, 0)]

    def test_every_few_steps(self, saved, model):
        # The last step is the epoch's own.
        assert self.run(saved, model, every_steps=5) == [(1, 2, 5), (1, 3, 0)]

    def test_every_few_seconds(self, saved, model, monkeypatch):
        now = [0.0]

        def clock():
            now[0] += 1
            return now[0]

        monkeypatch.setattr(time, "monotonic", clock)
        steps = self.run(saved, model, every_seconds=4)
        assert len(steps) == 3
        assert self.run(saved, model, every_seconds=4, alone=False) == [(1, 3, 0)]

    def test_another_machine_does_not_write(self, saved, model):
        assert self.run(saved, model, writes=False) == []
        assert saved.paths() == []

    @pytest.mark.parametrize(
        ("number", "happened"), [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "Interrupted")]
    )
    def test_saves_and_stops_when_asked_to(self, saved, model, number, happened):
        request = callbacks.TerminationRequest()
        request.received = number
        with pytest.raises(callbacks.Terminated) as stop:
            self.run(saved, model, request=request)
        [path] = saved.paths()
        assert str(stop.value) == f"{happened} at epoch 3, step 1: saved {path}."
        assert stop.value.signal is number

    def test_several_machines_stop_together(self, saved, model):
        """They wait for a step after which all of them save."""
        request = callbacks.TerminationRequest()
        request.received = signal.SIGTERM
        with pytest.raises(callbacks.Terminated, match="at epoch 3, step 5: "):
            self.run(saved, model, request=request, alone=False, every_steps=5)
