"""Does the file compute what the Keras model computes?"""

from dataclasses import dataclass

import numpy as np

from bireal_keras._keras import keras
from bireal_keras.export import _native_log
from bireal_keras.export._lce import lce

# As a share of how much the outputs vary between images. Through rounding alone, Bi-Real
# Nets of 18 and 34 layers differ by up to 4e-5 of it.
_TOLERANCE = 2e-4
# As a share of the largest output: the last digits of float32, if the outputs hardly vary.
_ROUNDING = 1e-5
# Of the samples that agree. A random Bi-Real Net 34 at 224x224 has 40 %.
_MIN_SHARE = 1 / 8
MIN_SAMPLES = 8


@dataclass(frozen=True)
class Agreement:
    """How far a file agrees with Keras; the attributes are those of `Report`."""

    samples: int
    close_samples: int
    max_abs_difference: float
    top1_agreement: float | None


def verify(model: keras.Model, flatbuffer: bytes, samples: np.ndarray) -> Agreement:
    """Runs both on the samples and compares.

    A 1-bit network is not continuous. Where an activation in front of a sign is within
    rounding of zero, Keras and TFLite may round to different sides of it, and the flipped
    sign changes what follows: rightly converted, a Bi-Real Net at 224x224 still gives
    visibly different logits on a good part of the images. No bound on all samples can
    tell that from a wrong file. But an error in the file shows on every image, and a
    flipped sign does not: so some of the samples, an eighth, have to agree up to
    rounding, and every result has to be finite.

    The file runs on LCE's reference kernel. LCE's default kernel is wrong where a filter
    is larger than the map.

    Args:
        model: from (batch, height, width, channels) to any float output.
        flatbuffer: what it was converted to.
        samples: float32 (samples, height, width, channels).

    Raises:
        ValueError: the results are not finite, or too few of them agree.
    """
    expected = model.predict(samples, batch_size=8, verbose=0)
    actual = _run(flatbuffer, samples)
    for name, outputs in (("The Keras model", expected), ("The converted file", actual)):
        if not np.isfinite(outputs).all():
            raise ValueError(f"{name} gives NaN or infinity on the samples.")

    expected_logits, actual_logits = _logits(expected), _logits(actual)
    differences = np.abs(actual_logits - expected_logits).max(axis=1)
    tolerance = max(
        _TOLERANCE * expected_logits.std(axis=0).mean(),
        _ROUNDING * np.abs(expected_logits).max(),
    )
    close = int((differences <= tolerance).sum())
    agreement = Agreement(
        samples=len(samples),
        close_samples=close,
        max_abs_difference=float(differences.max()),
        top1_agreement=(
            float((expected.argmax(-1) == actual.argmax(-1)).mean()) if expected.ndim == 2 else None
        ),
    )
    if close < _MIN_SHARE * len(samples):
        raise ValueError(
            f"The converted file does not compute what the Keras model does: {close} of "
            f"{len(samples)} samples agree within {tolerance:.2g}, the differences go from "
            f"{differences.min():.2g} to {differences.max():.2g}. At least "
            f"{_MIN_SHARE:.1%} should agree. If it is the artificial images that are to blame, "
            "pass real ones as `samples`."
        )
    return agreement


def random_samples(shape: tuple[int, int, int], count: int = 32) -> np.ndarray:
    """Images of one colour, patches of others and noise; always the same for the same shape.

    Noise alone would make all images alike to a network that ends in average pooling.

    Args:
        shape: (height, width, channels).
        count: number of images.

    Returns:
        float32 (count, height, width, channels) in [-1, 1].
    """
    height, width, channels = shape
    rng = np.random.default_rng(0)
    colour = rng.uniform(-1, 1, (count, 1, 1, channels))
    patches = rng.uniform(-1, 1, (count, -(-height // 8), -(-width // 8), channels))
    patches = patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    noise = rng.uniform(-1, 1, (count, *shape))
    return (0.5 * colour + 0.3 * patches + 0.2 * noise).astype(np.float32)


def _run(flatbuffer: bytes, samples: np.ndarray) -> np.ndarray:
    with _native_log.captured() as native_errors:
        try:
            interpreter = lce.testing.Interpreter(flatbuffer, use_reference_bconv=True)
            return interpreter.predict(samples)
        except Exception as error:
            raise ValueError(
                "The converted file does not run on LCE's reference kernel, so it cannot be "
                f"checked: {native_errors()} {error}"
            ) from error


def _logits(outputs: np.ndarray) -> np.ndarray:
    """Rows of outputs, (samples, values), with softmax undone.

    Softmax hides differences: 1,000 probabilities of an untrained net all are 0.001, and
    those of a confident one all are 0 or 1.
    """
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        rows = np.log(np.maximum(rows, 1e-30))
        rows -= rows.mean(axis=1, keepdims=True)
    return rows
