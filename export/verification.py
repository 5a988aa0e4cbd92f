"""Does the file compute what the Keras model computes?"""

import numpy as np

from bireal_keras._keras import keras
from bireal_keras.export import comparison, probes
from bireal_keras.export.report import Agreement

# This share of the results has to agree where Keras cannot be told all signs of the file. An error
# in the file shows on every image, a flipped sign does not.
_MIN_SHARE = 1 / 8
MIN_SAMPLES = 8


def verify(
    model: keras.Model,
    content: bytes,
    samples: np.ndarray,
    *,
    tolerance: float = comparison.TOLERANCE,
) -> Agreement:
    """Runs both on the samples and compares, as `comparison` explains.

    Given the file's signs, every value that Keras has before a sign, and every result, has
    to be finite and agree with the file's up to rounding. Where Keras cannot be told all signs,
    because some are not inputs of a binary convolution, a harmless flip among them changes all that
    follows: then it is enough that an eighth of the results agree, and no weight is wrong.

    The file runs on LCE's reference kernel.

    Args:
        model: from (batch, height, width, channels) to any float output.
        content: what it was converted to.
        samples: float32 (samples, height, width, channels).
        tolerance: what passes for rounding, as a share of a tensor's spread. A file whose real
            layers are meant to be less precise than float32 needs more.

    Raises:
        ValueError: the file does not run, the results are not finite, or they do not agree.
    """
    expected, [compared] = comparison.compare(
        model, content, samples, [probes.run_on_lce], tolerance=tolerance
    )
    reason = reason_to_refuse(expected, compared)
    if reason is not None:
        raise ValueError(reason)
    differences = compared.free_differences
    return Agreement(
        samples=len(samples),
        close_samples=int((differences <= compared.tolerance).sum()),
        max_abs_difference=float(differences.max()),
        top1_agreement=top1_agreement(expected, compared.outputs),
        signs=compared.signs,
        flips=compared.flips,
    )


def reason_to_refuse(expected: np.ndarray, compared: comparison.Comparison) -> str | None:
    """Why a file is wrong, None for a right one.

    Args:
        expected: what Keras gives.
        compared: the file against Keras.
    """
    for name, outputs in (("Keras model", expected), ("converted file", compared.outputs)):
        if not np.isfinite(outputs).all():
            return f"The {name} gives NaN or infinity on the samples."
    wrong = "The converted file does not compute what the Keras model does: "
    if compared.all_signs_told:
        layer = compared.first_wrong
        return None if layer is None else wrong + describe(layer)
    damaged = next((layer for layer in compared.layers if layer.wrong_bits), None)
    if damaged is not None:
        return wrong + describe(damaged)
    close, samples = int(compared.close.sum()), len(compared.close)
    if close < _MIN_SHARE * samples:
        return (
            f"{wrong}{close} of {samples} samples agree within {compared.tolerance:.2g}, and at "
            f"least {_MIN_SHARE:.1%} should. If it is the artificial images that are to blame, "
            "pass real ones as `samples`."
        )
    return None


def describe(layer: comparison.Layer) -> str:
    """How a layer differs, in words."""
    if layer.wrong_bits:
        return f"{layer.wrong_bits:,} of the 1-bit weights of {layer.name} differ."
    what = "its result differs" if layer.name == "output" else f"the input of {layer.name} differs"
    share = f", {layer.difference / layer.spread:.2g} of its spread" if layer.spread else ""
    by = f" It is computed by {', '.join(layer.computed_by)}." if layer.computed_by else ""
    return (
        f"given the same signs before, {what} by up to {layer.difference:.2g}{share}; rounding "
        f"explains {layer.tolerance:.2g}.{by}"
    )


def top1_agreement(a: np.ndarray, b: np.ndarray) -> float | None:
    """Share of rows (n, classes), 0 to 1, whose largest values agree; None for another shape."""
    return float((a.argmax(-1) == b.argmax(-1)).mean()) if a.ndim == 2 else None


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
