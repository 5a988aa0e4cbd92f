"""What happens between the steps of training: figures, checkpoints, and reasons to stop."""

import math
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

from bireal_keras._keras import keras
from bireal_keras.training import checkpoints
from bireal_keras.training.checkpoints import Position

# Without a terminal, training shows at least this often that it goes on.
_LINE_SECONDS = 60.0
_HAPPENED = {signal.SIGTERM: "Terminated", signal.SIGINT: "Interrupted"}


class Terminated(Exception):
    """Training was asked to stop, by SIGTERM or Ctrl-C, and has saved where it was.

    Attributes:
        signal: which of the two, SIGTERM or SIGINT.
    """

    def __init__(self, message: str, number: signal.Signals = signal.SIGTERM):
        super().__init__(message)
        self.signal = number


class TerminationRequest:
    """Within its context, SIGTERM and Ctrl-C are only noted, in `received`, for `obey`.

    A second Ctrl-C interrupts at once, as ever.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def obey(self, when: str, saved: str) -> None:
        """Stops training if it was asked to: what `received` says is not to be forgotten.

        Args:
            when: how far training has come, for the message.
            saved: what has been saved of it, for the message.

        Raises:
            Terminated: a signal was received.
        """
        if self.received is not None:
            raise Terminated(f"{_HAPPENED[self.received]} {when}: {saved}.", self.received)

    def __enter__(self) -> "TerminationRequest":
        # Elsewhere Python allows no handlers, and whoever made the thread has theirs.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _HAPPENED}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, previous in self._previous.items():
                signal.signal(number, previous)


class StopOnInvalidLoss(keras.callbacks.Callback):
    """Raises a FloatingPointError at the first step whose loss is NaN or infinite."""

    def __init__(self, saved: checkpoints.Checkpoints):
        super().__init__()
        self._saved = saved

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            newest = self._saved.newest()
            raise FloatingPointError(
                f"The loss became {logs['loss']} at step {int(self.model.optimizer.iterations)}. "
                f"The last good checkpoint is {newest or 'none'}. A lower learning rate may help."
            )


class EpochFigures(keras.callbacks.Callback):
    """Completes an epoch's logs, and prints them on one line; within a long one, how far it is.

    Adds the stage where there are several, the learning_rate of the last step and the
    seconds. In an epoch that began before the run was resumed, `start.figures` are counted in.

    Args:
        start: where training starts.
        steps: of an epoch.
        epochs: of the run.
        stage: this stage's number, from 1, and what to call it; None where it is the only one.
        print_them: whether to print.
    """

    def __init__(
        self,
        start: Position,
        *,
        steps: int,
        epochs: int,
        stage: tuple[int, str] | None,
        print_them: bool,
    ):
        super().__init__()
        self._start, self._steps, self._epochs = start, steps, epochs
        self._stage, self._print_them = stage, print_them
        self._last_line = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        resumed = epoch == self._start.epoch
        self.first_step = self._start.step if resumed else 0
        self._before = self._start.figures if resumed else {}
        self._began = time.perf_counter() - self._before.get("seconds", 0.0)
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if self._line_is_due():
            step = self.first_step + batch + 1
            figures = self.so_far(logs, step)
            self._print(f", step {step:,} of {self._steps:,}: {_told(figures)}")

    def on_test_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if self._line_is_due():
            self._print(f", validation, batch {batch + 1:,}: {_told(logs)}")

    def _line_is_due(self) -> bool:
        return self._print_them and time.monotonic() - self._last_line >= _LINE_SECONDS

    def _print(self, text: str) -> None:
        stage = f"stage {self._stage[1]}, " if self._stage else ""
        print(f"{stage}epoch {self._epoch + 1}/{self._epochs}{text}", flush=True)
        self._last_line = time.monotonic()

    def so_far(self, logs: dict[str, float], step: int) -> dict[str, float]:
        """Means over the epoch's first `step` steps, from the `logs` of this process."""
        share = self.first_step / step
        means = {
            name: value + share * (self._before.get(name, value) - value)
            for name, value in logs.items()
        }
        return {**means, "seconds": time.perf_counter() - self._began}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        figures = self.so_far(train, self._steps)
        seconds = figures.pop("seconds")
        logs.update(figures)
        logs["learning_rate"] = float(keras.backend.get_value(self.model.optimizer.learning_rate))
        logs["seconds"] = seconds
        if self._stage:
            logs["stage"] = self._stage[0]
        if self._print_them:
            self._print(f": {_told(logs)}")


def _told(figures: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in figures.items() if key != "stage")


class KeepBest(keras.callbacks.Callback):
    """Offers each epoch's weights to `best`."""

    def __init__(self, best: checkpoints.BestEpoch):
        super().__init__()
        self._best = best

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._best.offer(self.model, epoch, logs["val_accuracy"])


class StopEarly(keras.callbacks.Callback):
    """Ends training when `patience` epochs have passed since the best one.

    Args:
        best: has been offered each epoch's weights.
        patience: at least 1.
        print_it: whether to say so.
    """

    def __init__(self, best: checkpoints.BestEpoch, patience: int, *, print_it: bool):
        super().__init__()
        self._best, self._patience, self._print_it = best, patience, print_it

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if self._best.waited(epoch + 1) < self._patience:
            return
        self.model.stop_training = True
        if self._print_it:
            print(
                f"stopped after epoch {epoch + 1}: none of the last {self._patience} had a higher "
                "validation accuracy",
                flush=True,
            )


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves after each epoch, in between where asked to, and when the process shall end.

    Args:
        saved: where to.
        start: where training starts.
        figures: knows the epoch's means so far.
        steps: of an epoch.
        every_seconds: how often to save, or None.
        every_steps: how often to save, too, or None.
        writes: whether this process is the one that writes. The others take part in reading
            the variables.
        request: when `received`, training saves and raises `Terminated`.
        alone: whether no other machine trains, so that it can do so after any step. Otherwise
            it waits for one after which all machines save.
    """

    def __init__(
        self,
        saved: checkpoints.Checkpoints,
        start: Position,
        figures: EpochFigures,
        *,
        steps: int,
        every_seconds: float | None,
        every_steps: int | None,
        writes: bool,
        request: TerminationRequest,
        alone: bool,
    ):
        super().__init__()
        self._saved, self._start, self._figures, self._steps = saved, start, figures, steps
        self._every_seconds, self._every_steps = every_seconds, every_steps
        self._writes, self._request, self._alone = writes, request, alone
        self._last_time = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        step = self._figures.first_step + batch + 1
        if step < self._steps and self._is_due(step):
            self._save(self._epoch, step, self._figures.so_far(logs, step))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._save(epoch + 1, 0, {})

    def _is_due(self, step: int) -> bool:
        if self._every_steps and step % self._every_steps == 0:
            return True
        if not self._alone:
            return False
        seconds = time.monotonic() - self._last_time
        return self._request.received is not None or (
            self._every_seconds is not None and seconds >= self._every_seconds
        )

    def _save(self, epoch: int, step: int, figures: dict[str, float]) -> None:
        figures = {name: float(value) for name, value in figures.items()}
        position = Position(self._start.stage, epoch, step, figures)
        state = checkpoints.state_of(self.model, self.model.optimizer)
        path = self._saved.save(state, position) if self._writes else None
        self._last_time = time.monotonic()
        saved = f"saved {path}" if path else f"the newest checkpoint is {self._saved.newest()}"
        self._request.obey(f"at {position}", saved)


def create(
    run_dir: Path,
    saved: checkpoints.Checkpoints,
    start: Position,
    *,
    steps: int,
    epochs: int,
    stage: tuple[int, str] | None = None,
    interactive: bool = False,
    best: checkpoints.BestEpoch | None = None,
    patience: int = 0,
    others: Sequence[keras.callbacks.Callback] = (),
    every_seconds: float | None,
    every_steps: int | None,
    writes: bool,
    request: TerminationRequest,
    alone: bool,
) -> list[keras.callbacks.Callback]:
    """Everything that happens around a training step, in the order in which it has to.

    Args:
        run_dir: where log.csv and tensorboard/ go.
        interactive: whether Keras's progress bar prints the figures.
        best: keeps the weights of the best epoch, if any are to be kept.
        patience: see `StopEarly`, which needs `best`; 0 for never.
        others: a user's own.
        saved, start, steps, epochs, stage, every_seconds, every_steps, writes, request, alone:
            see `EpochFigures` and `SaveCheckpoints`.
    """
    figures = EpochFigures(
        start, steps=steps, epochs=epochs, stage=stage, print_them=writes and not interactive
    )
    logs = [
        keras.callbacks.CSVLogger(run_dir / "log.csv", append=True),
        keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
    ]
    return [
        StopOnInvalidLoss(saved),
        figures,
        *(logs if writes else []),
        *([] if best is None else [KeepBest(best)]),
        *([StopEarly(best, patience, print_it=writes)] if best is not None and patience else []),
        *others,
        # Last: an epoch that has a checkpoint is complete in every log.
        SaveCheckpoints(
            saved,
            start,
            figures,
            steps=steps,
            every_seconds=every_seconds,
            every_steps=every_steps,
            writes=writes,
            request=request,
            alone=alone,
        ),
    ]
