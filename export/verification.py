"""Does the file compute what the Keras model computes?"""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from bireal_keras._keras import keras
from bireal_keras.export import comparison, probes
from bireal_keras.export import signature as signatures
from bireal_keras.export.differences import TOLERANCE, Comparison, Layer
from bireal_keras.export.report import Agreement
from bireal_keras.export.results import top1_agreement
from bireal_keras.tflite.model import Graph

_log = logging.getLogger(__name__)

# This share of the results has to agree where Keras cannot be told all signs of the file. An error
# in the file shows on every image, a flipped sign does not.
_MIN_SHARE = 1 / 8


def verify(
    model: keras.Model,
    content: bytes,
    samples: Sequence[np.ndarray],
    runners: Sequence[Callable[[bytes], probes.Runner]] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Runs both on the samples and compares, as `comparison` explains.

    Given the file's signs, every value that Keras has before a sign, and every result, has
    to be finite and agree with the file's up to rounding. Where Keras cannot be told all signs,
    because some are not inputs of a binary convolution, a harmless flip among them changes all that
    follows: then it is enough that an eighth of the results agree, and no weight is wrong.

    Args:
        model: from float32 tensors to any float tensors.
        content: what it was converted to.
        samples: what its inputs get, each float32 (samples, ...).
        runners: what runs the file: `probes.run_on_runtime`, `probes.run_on_lce`. Default: the
            first and, where it can run the file, the second.
        tolerance: what passes for rounding, as a share of a tensor's spread. A file whose real
            layers are meant to be less precise than float32 needs more.

    Returns:
        How far the file, as the first of them runs it, agrees.

    Raises:
        ValueError: the file does not run, the results are not finite, or they do not agree.
        ImportError: LCE is asked for and not installed.
    """
    if runners is None:
        runners = _witnesses(model, content, samples)
    expected, comparisons = comparison.compare(
        model, content, samples, runners, tolerance=tolerance
    )
    for number, compared in enumerate(comparisons):
        reason = reason_to_refuse(expected, compared)
        if reason is not None:
            raise ValueError(f"LCE's kernel, not our runtime: {reason}" if number else reason)
    compared = comparisons[0]
    return Agreement(
        samples=len(samples[0]),
        close_samples=int(compared.freely_close.sum()),
        max_abs_difference=float(compared.free_differences.max()),
        top1_agreement=top1_agreement(expected, compared.outputs),
        signs=compared.signs,
        flips=compared.flips,
    )


def _witnesses(
    model: keras.Model, content: bytes, samples: Sequence[np.ndarray]
) -> list[Callable[[bytes], probes.Runner]]:
    graph = Graph(content)
    inputs, _ = signatures.of(model).tensors_of(graph)
    in_file_order = [samples[inputs.index(index)] for index in graph.inputs]
    missing = probes.missing_on_lce(content, in_file_order)
    if missing:
        _log.info("without LCE's reference kernel: %s", missing)
        return [probes.run_on_runtime]
    return [probes.run_on_runtime, probes.run_on_lce]


def reason_to_refuse(expected: Sequence[np.ndarray], compared: Comparison) -> str | None:
    """Why a file is wrong, None for a right one.

    Args:
        expected: what Keras gives.
        compared: the file against Keras.
    """
    for name, outputs in (("Keras model", expected), ("converted file", compared.outputs)):
        if not all(np.isfinite(output).all() for output in outputs):
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
        tolerances = " and ".join(f"{result.tolerance:.2g}" for result in compared.results)
        return (
            f"{wrong}{close} of {samples} samples agree within {tolerances}, and at "
            f"least {_MIN_SHARE:.1%} should. Artificial images may be to blame: real ones tell, as "
            "`samples` of export.convert or --dataset of bireal-verify."
        )
    return None


def describe(layer: Layer) -> str:
    """How a layer differs, in words."""
    if layer.wrong_bits:
        return f"{layer.wrong_bits:,} of the 1-bit weights of {layer.name} differ."
    if layer.signs:
        what = f"the input of {layer.name} differs"
    elif layer.name.startswith("output"):
        what = f"its {layer.name.replace('output', 'result')} differs"
    else:
        what = f"the {layer.name} differs, beyond half a step,"
    share = f", {layer.difference / layer.spread:.2g} of its spread" if layer.spread else ""
    by = f" It is computed by {', '.join(layer.computed_by)}." if layer.computed_by else ""
    return (
        f"given the same signs before, {what} by up to {layer.difference:.2g}{share}; rounding "
        f"explains {layer.tolerance:.2g}.{by}"
    )
