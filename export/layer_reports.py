"""What became of each layer: the diagnosis of the Keras model beside what the file has."""

import itertools
from collections.abc import Sequence

import numpy as np

from bireal_keras.export import matching, reasons, rewriting
from bireal_keras.export.binarize import Layer
from bireal_keras.export.diagnosis import Diagnosis
from bireal_keras.export.multiplications import Multiplication
from bireal_keras.export.report import LayerReport


def layer_reports(
    found: Sequence[Diagnosis],
    operators: Sequence[Multiplication],
    rewritten: dict[str, str],
    packed: Sequence[Layer] = (),
    *,
    batch: int = 1,
) -> list[LayerReport]:
    """One for each call of a layer, and for each operator that no layer accounts for.

    Args:
        found: what `diagnosis.diagnose` says of the model.
        operators: what `multiplications` finds in the file.
        rewritten: what `rewriting.rewritten` says that it did.
        packed: what `binarize` says of the layers of the file, if it made it.
        batch: how many images the file takes at a time.
    """
    stayed_float = {layer.tensor: layer for layer in packed if not layer.binary}
    kernels = [
        matching.kernels_of(one.layer)
        if one.kernel is None
        else [matching.Kernel(np.moveaxis(one.kernel, -1, 0))]
        for one in found
    ]
    owners = [number for number, own in enumerate(kernels) for _ in own]
    pairs = matching.match(list(itertools.chain(*kernels)), operators)
    matches: list[list[Multiplication]] = [[] for _ in found]
    for position, (index, _) in pairs.items():
        matches[owners[position]].append(operators[index])
    reports = [
        LayerReport.of(
            match,
            batch=batch,
            name=one.layer.name,
            kind=type(one.layer).__name__,
            intended_binary=one.intended_binary,
            reason=reason,
            explanation=explanation,
            followed=one.followed,
            left_reason=_left_reason(one, rewritten),
            rewritten=rewritten.get(one.layer.name, ""),
        )
        for one, match in zip(found, matches)
        for reason, explanation in [_reason(one, match, stayed_float)]
    ]
    matched = {id(operator) for match in matches for operator in match}
    reports += [
        LayerReport.of(
            [operator],
            batch=batch,
            name=operator.output,
            kind=operator.kind,
            intended_binary=operator.is_binary,
            reason="" if operator.is_binary else reasons.NO_LAYER,
            explanation="" if operator.is_binary else reasons.explain(reasons.NO_LAYER),
            left_reason=reasons.LEFT_UNKNOWN,
        )
        for operator in operators
        if id(operator) not in matched
    ]
    return reports


def _reason(
    one: Diagnosis, operators: Sequence[Multiplication], stayed_float: dict[int | None, Layer]
) -> tuple[str, str]:
    """The diagnosis, as far as the file bears it out, and its explanation."""
    is_warning = one.reason in reasons.WARNINGS
    if operators and all(operator.is_binary for operator in operators):
        reason = one.reason if is_warning else ""
    elif one.reason in reasons.NOT_MEANT:
        reason = one.reason
    else:
        # The diagnosis is about what LCE packs. Where the pass sees no sign, values may tell more.
        for operator in operators:
            layer = stayed_float.get(operator.tensor)
            if layer is None:
                continue
            if layer.code != reasons.UNKNOWN_SIGN or one.reason not in reasons.OF_VALUES:
                return layer.code, layer.explanation
        reason = reasons.UNKNOWN if is_warning or not one.reason else one.reason
    return reason, reasons.explain(reason, one.detail)


def _left_reason(one: Diagnosis, rewritten: dict[str, str]) -> str:
    """Why what follows a layer would not be part of it."""
    # Once it is rewritten, a factor comes before the activation.
    if rewriting.costs_digits(one) or rewritten.get(one.layer.name) == rewriting.APART:
        return reasons.CLIP_APART
    return one.left_reason or reasons.LEFT_UNKNOWN
