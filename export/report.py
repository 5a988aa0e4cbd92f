"""What `bireal_keras.export.convert` tells about the file it wrote."""

import html
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bireal_keras.export import reasons
from bireal_keras.export.multiplications import DENSE, Multiplication
from bireal_keras.export.results import Results

_WIDTH = 100
# The widths of the columns; with two spaces between them they are at most `_WIDTH`.
_HEADER = ("layer", "kind", "as", "note", "bytes", "MACs")
_MAX_WIDTHS = (28, 18, 5, 16, 10, 13)
_TEXT_COLUMNS = 4
_MAX_NAMES = 6
# What may be converted.
KERAS, FLOAT_FILE = "Keras", "the float file"


@dataclass(frozen=True)
class LayerReport:
    """One call of a convolution or a dense layer, and what became of it.

    Attributes:
        name: of the Keras layer; of the output tensor for an operator of no layer, and in what was
            made of a float file.
        kind: class of the Keras layer; name of the operator.
        intended_binary: whether its input and its kernel are 1-bit in Keras; in a float file,
            whether one of them is.
        binary: whether they are in the file.
        reason: why not, a code of docs/export.md; "" if they are, or what to know about it.
        explanation: the same in a sentence, and what to do about it.
        fused: whether BatchNormalization, biases and activations that follow have become part
            of it; None if none follow.
        left_behind: names of the operators that they have become if not.
        left_reason: why, a code of docs/export.md, or "".
        left_explanation: the same in a sentence.
        rewritten: what the converter did so that it is 1-bit, or "".
        weights: values of its kernel.
        macs: multiply-accumulates for one image.
        kernel_bytes: what the kernel takes in the file.
        expected_kernel_bytes: what it should: 1 bit for each weight of a layer that is meant to
            be 1-bit, 4 bytes for each of any other.
        other_bytes: what its bias, factors and thresholds take.
    """

    name: str
    kind: str
    intended_binary: bool
    binary: bool
    reason: str
    explanation: str
    fused: bool | None
    left_behind: tuple[str, ...]
    left_reason: str
    left_explanation: str
    rewritten: str
    weights: int
    macs: int
    kernel_bytes: int
    expected_kernel_bytes: int
    other_bytes: int

    @classmethod
    def of(
        cls,
        operators: Sequence[Multiplication],
        *,
        batch: int,
        name: str,
        kind: str,
        intended_binary: bool,
        reason: str,
        explanation: str,
        followed: bool = False,
        left_reason: str = "",
        rewritten: str = "",
    ) -> "LayerReport":
        """Of the operators that a layer has become, for files of `batch` images.

        `followed` says whether BatchNormalization, biases or activations come after the layer, and
        `left_reason` why some of them stay operators, should they; the others are attributes.
        """
        left_behind = tuple(left for operator in operators for left in operator.left_behind)
        left_reason = left_reason if left_behind else ""
        weights = sum(operator.weights for operator in operators)
        return cls(
            name=name,
            kind=kind,
            intended_binary=intended_binary,
            binary=bool(operators) and all(operator.is_binary for operator in operators),
            reason=reason,
            explanation=explanation,
            fused=not left_behind if left_behind or followed else None,
            left_behind=left_behind,
            left_reason=left_reason,
            left_explanation=reasons.explain(left_reason),
            rewritten=rewritten,
            weights=weights,
            macs=sum(operator.macs for operator in operators) // batch,
            kernel_bytes=sum(operator.kernel_bytes for operator in operators),
            expected_kernel_bytes=-(-weights // 8) if intended_binary else 4 * weights,
            other_bytes=sum(operator.other_bytes for operator in operators),
        )


@dataclass(frozen=True)
class Total:
    """The sum of the layers that are meant to be 1-bit, or of the others."""

    layers: int
    weights: int
    macs: int
    kernel_bytes: int
    expected_kernel_bytes: int
    other_bytes: int

    @classmethod
    def of(cls, layers: Sequence[LayerReport]) -> "Total":
        """Sums up."""
        return cls(
            layers=len(layers),
            weights=sum(layer.weights for layer in layers),
            macs=sum(layer.macs for layer in layers),
            kernel_bytes=sum(layer.kernel_bytes for layer in layers),
            expected_kernel_bytes=sum(layer.expected_kernel_bytes for layer in layers),
            other_bytes=sum(layer.other_bytes for layer in layers),
        )


@dataclass(frozen=True)
class Agreement(Results):
    """How far a file agrees with Keras, or with the float file it was made of, on some samples.

    Attributes:
        signs: how many signs of activations were compared on them.
        flips: how many of these differ, because rounding took a value across zero, when Keras
            is given the file's signs before. Any other difference is an error.
    """

    signs: int
    flips: int


@dataclass(frozen=True)
class Report:
    """A converted model in figures; `str(report)` is for people, `report.as_dict()` for JSON.

    What `agreement` holds, the report has under the same names: `report.samples`.

    Attributes:
        path: the file.
        size_bytes: its size.
        float_size_bytes: 4 bytes for each parameter of the Keras model; size of the float file.
        binary_convolutions: bit-packed convolutions (`LceBconv2d`) in the file.
        intended_binary_convolutions: layers that are meant to be 1-bit, see `LayerReport`; unless
            `allow_float` was given, each of them is bit-packed in the file.
        float_convolutions: convolutions with real weights.
        layers: its convolutions and dense layers, in the order of their calls.
        binary_total: the layers of `layers` that are meant to be 1-bit.
        real_total: the others.
        cast_layers: names of layers of another precision, which the file computes in float32.
        agreement: how far the file agrees with `source`.
        real_layers: precision of the kernels of real-valued layers. Keras is compared with the
            file in which it is float32, and this with the file that was written.
        input_type: what the file takes, "float32" or, pixels, "uint8". Keras is compared with the
            file that takes float32, whose latency it is, too.
        images: what the model's images are made of pixels by, and how that is known; None for a
            model of something else than RGB or grey images.
        float32_agreement: share of the samples on which these two files find the same class; None
            if they are one, or as `top1_agreement`.
        latency_ms: the shortest of a few runs on our runtime, one image, one thread of this
            machine, by precision: of the file, and of the one with float32.
        source: what was converted, in words: "Keras" or "the float file".
        pytorch: how far the float file agrees with the PyTorch module that it was made of; None
            for what was made of something else.
    """

    path: str
    size_bytes: int
    float_size_bytes: int
    binary_convolutions: int
    intended_binary_convolutions: int
    float_convolutions: int
    layers: tuple[LayerReport, ...]
    binary_total: Total
    real_total: Total
    cast_layers: tuple[str, ...]
    agreement: Agreement
    real_layers: str
    images: str | None
    float32_agreement: float | None
    latency_ms: dict[str, float]
    input_type: str = "float32"
    source: str = KERAS
    pytorch: Results | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        content: bytes,
        operators: Sequence[Multiplication],
        layers: Sequence[LayerReport],
        **others: Any,
    ) -> "Report":
        """Counts what is in a file.

        Args:
            path: of the file.
            content: of it.
            operators: its convolutions and dense layers.
            layers: what became of them.
            others: the attributes that are not counted.
        """
        intended = [layer for layer in layers if layer.intended_binary]
        convolutions = [operator for operator in operators if operator.kind != DENSE]
        binary_convolutions = sum(operator.is_binary for operator in convolutions)
        return cls(
            path=str(path),
            size_bytes=len(content),
            binary_convolutions=binary_convolutions,
            intended_binary_convolutions=len(intended),
            float_convolutions=len(convolutions) - binary_convolutions,
            layers=tuple(layers),
            binary_total=Total.of(intended),
            real_total=Total.of([layer for layer in layers if not layer.intended_binary]),
            **others,
        )

    @property
    def samples(self) -> int:
        return self.agreement.samples

    @property
    def signs(self) -> int:
        return self.agreement.signs

    @property
    def flips(self) -> int:
        return self.agreement.flips

    @property
    def close_samples(self) -> int:
        return self.agreement.close_samples

    @property
    def max_abs_difference(self) -> float:
        return self.agreement.max_abs_difference

    @property
    def top1_agreement(self) -> float | None:
        return self.agreement.top1_agreement

    def as_dict(self) -> dict[str, Any]:
        """The whole report as dictionaries, lists, strings and numbers."""
        values = asdict(self)
        return values | values.pop("agreement")

    def __str__(self) -> str:
        return "\n".join([*_table(self.layers), "", *_notes(self), *_totals(self)])

    def _repr_html_(self) -> str:
        """What a notebook shows: the same, with a table of all layers under their whole names."""
        head, *rows = [_HEADER, *map(_cells, self.layers)]
        body = "".join(f"<tr>{_html_cells(row, 'td')}</tr>" for row in rows)
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in _notes(self, width=None))
        totals = "".join(f"<li>{html.escape(line)}</li>" for line in _totals(self))
        return (
            f"<table><thead><tr>{_html_cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
            f"{lines}<ul>{totals}</ul>"
        )


def _table(layers: Sequence[LayerReport]) -> list[str]:
    rows = [_HEADER, *map(_cells, layers)]
    widths = [min(limit, max(map(len, cells))) for limit, cells in zip(_MAX_WIDTHS, zip(*rows))]
    return [
        "  ".join(
            _cut(cell, width).ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _cells(layer: LayerReport) -> tuple[str, ...]:
    fused = ["fused"] if layer.fused and layer.binary else []
    left = [f"+{name}" for name in layer.left_behind]
    note = " ".join([layer.reason, *fused, *left]).strip()
    size = layer.kernel_bytes + layer.other_bytes
    kind = "1-bit" if layer.binary else "float"
    return layer.name, layer.kind, kind, note, f"{size:,}", f"{layer.macs:,}"


def _html_cells(cells: Sequence[str], tag: str) -> str:
    """Cells of a row, figures to the right."""
    return "".join(
        f'<{tag} style="text-align: {"left" if column < _TEXT_COLUMNS else "right"}">'
        f"{html.escape(cell)}</{tag}>"
        for column, cell in enumerate(cells)
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _notes(report: Report, width: int | None = _WIDTH) -> list[str]:
    """Each explanation once, with the layers that it is about; in lines of `width`, or one each."""
    about: dict[str, list[str]] = {}
    for layer in report.layers:
        if layer.reason != "real" and layer.explanation:
            about.setdefault(f"{layer.reason}: {layer.explanation}", []).append(layer.name)
        if layer.left_explanation:
            operators = " ".join(f"+{name}" for name in layer.left_behind)
            note = f"{operators}, {layer.left_reason}: {layer.left_explanation}"
            about.setdefault(note, []).append(layer.name)
        if layer.rewritten:
            about.setdefault(f"rewritten: {layer.rewritten}.", []).append(layer.name)
    if report.cast_layers:
        about["rewritten: computed in float32."] = list(report.cast_layers)
    lines: list[str] = []
    for note, names in about.items():
        some = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        text = f"{note} ({some})"
        lines += [text] if width is None else textwrap.wrap(text, width, subsequent_indent="  ")
    return lines if width is None or not lines else [*lines, ""]


def _totals(report: Report) -> list[str]:
    kernels = report.binary_total.kernel_bytes + report.real_total.kernel_bytes
    latency = ", ".join(f"{name} {time:.2f} ms" for name, time in report.latency_ms.items())
    others = report.binary_total.other_bytes + report.real_total.other_bytes
    before = "the float32 weights" if report.source == KERAS else report.source
    return [
        f"{report.path}: {report.size_bytes:,} bytes, "
        f"{report.float_size_bytes / report.size_bytes:.1f} times smaller than {before} "
        f"({report.float_size_bytes:,} bytes)",
        f"convolutions: {report.binary_convolutions} bit-packed "
        f"({report.intended_binary_convolutions} with 1-bit quantizers in {report.source}), "
        f"{report.float_convolutions} in {report.real_layers}",
        _total("1-bit layers", report.binary_total, "1 bit"),
        _total("real layers", report.real_total, "32 bits"),
        f"their factors, biases and thresholds: {others:,} bytes; "
        f"the rest of the file: {report.size_bytes - kernels - others:,} bytes",
        f"against {report.source}, given the same signs before: {report.flips:,} of "
        f"{report.signs:,} signs differ, by rounding",
        f"on its own, {_results(report.agreement)}",
        *([] if report.pytorch is None else [_against_pytorch(report.pytorch)]),
        *_images(report),
        *_compact(report),
        f"latency here, one thread: {latency}",
    ]


def _results(results: Results) -> str:
    top1 = (
        "" if results.top1_agreement is None else f", top-1 agrees on {results.top1_agreement:.1%}"
    )
    return (
        f"{results.samples} samples: {results.close_samples} equal up to rounding{top1}, "
        f"off by at most {results.max_abs_difference:.2g}"
    )


def _against_pytorch(results: Results) -> str:
    return f"the float file against PyTorch, {_results(results)}"


def _images(report: Report) -> list[str]:
    if report.images is None:
        return []
    pixels = "; the file does that, and takes pixels" if report.input_type == "uint8" else ""
    return [f"images: {report.images}{pixels}"]


def _compact(report: Report) -> list[str]:
    if report.float32_agreement is None:
        return []
    share = f"{report.float32_agreement:.1%}"
    return [f"real layers in {report.real_layers}: top-1 agrees with float32 on {share}"]


def _total(title: str, total: Total, bits: str) -> str:
    return (
        f"{title}: {total.macs:,} MACs, {total.weights:,} weights, {total.kernel_bytes:,} bytes "
        f"(at {bits}: {total.expected_kernel_bytes:,})"
    )
