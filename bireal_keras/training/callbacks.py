"""What happens between the steps of training: figures, checkpoints, and reasons to stop."""

import math
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType

from bireal_keras._keras import keras
from bireal_keras.training import checkpoints
from bireal_keras.training.checkpoints import Position


class Terminated(Exception):
    """Training was asked to stop, by SIGTERM, and has saved where it was."""


class TerminationRequest:
    """Within its context, SIGTERM only sets `received`."""

    def __init__(self) -> None:
        self.received = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    def __enter__(self) -> "TerminationRequest":
        # Elsewhere Python allows no handlers, and whoever made the thread has theirs.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous)


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
    """Completes an epoch's logs, and prints them on one line.

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

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        resumed = epoch == self._start.epoch
        self.first_step = self._start.step if resumed else 0
        self._before = self._start.figures if resumed else {}
        self._began = time.perf_counter() - self._before.get("seconds", 0.0)

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
            stage = f"stage {self._stage[1]}, " if self._stage else ""
            told = ", ".join(f"{key} {value:.4g}" for key, value in logs.items() if key != "stage")
            print(f"{stage}epoch {epoch + 1}/{self._epochs}: {told}", flush=True)


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
        return self._request.received or (
            self._every_seconds is not None and seconds >= self._every_seconds
        )

    def _save(self, epoch: int, step: int, figures: dict[str, float]) -> None:
        figures = {name: float(value) for name, value in figures.items()}
        position = Position(self._start.stage, epoch, step, figures)
        state = checkpoints.state_of(self.model, self.model.optimizer)
        path = self._saved.save(state, position) if self._writes else None
        self._last_time = time.monotonic()
        if self._request.received:
            where = f"saved {path}" if path else f"the newest checkpoint is {self._saved.newest()}"
            raise Terminated(f"Terminated at {position}: {where}.")


def create(
    run_dir: Path,
    saved: checkpoints.Checkpoints,
    start: Position,
    *,
    steps: int,
    epochs: int,
    stage: tuple[int, str] | None = None,
    interactive: bool = False,
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
