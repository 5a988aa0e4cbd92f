"""The report: what it adds up to, and that it can be read."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from export_helpers import CLASSES, SIZE

from bireal_keras.export import reasons
from bireal_keras.export.report import Agreement, LayerReport, Report, Total

DOCS = Path(__file__).parents[2] / "docs/export.md"


def layer(**changes):
    values = {
        "name": "stage4_block12_long_name_conv_of_a_layer",
        "kind": "QuantDepthwiseConv2D",
        "intended_binary": True,
        "binary": False,
        "reason": "channels_first",
        "explanation": reasons.explain("channels_first"),
        "fused": False,
        "left_behind": ("MUL", "ADD"),
        "left_reason": "pool_first",
        "left_explanation": reasons.explain("pool_first"),
        "rewritten": "",
        "weights": 2_359_296,
        "macs": 115_605_504,
        "kernel_bytes": 9_437_184,
        "expected_kernel_bytes": 294_912,
        "other_bytes": 4_096,
    }
    return LayerReport(**{**values, **changes})


def report_of(*layers):
    return Report(
        path="model.tflite",
        size_bytes=50_000_000,
        float_size_bytes=100_000_000,
        binary_convolutions=0,
        intended_binary_convolutions=len(layers),
        float_convolutions=len(layers),
        layers=layers,
        binary_total=Total.of(layers),
        real_total=Total.of([]),
        cast_layers=("some_layer",),
        agreement=Agreement(
            samples=32,
            signs=123_456,
            flips=7,
            close_samples=32,
            max_abs_difference=1e-5,
            top1_agreement=1.0,
        ),
        real_layers="int8",
        images="symmetric, as given",
        float32_agreement=0.97,
        latency_ms={"float32": 12.349, "int8": 1.2},
    )


def test_text_fits_in_100_columns():
    text = str(report_of(*[layer(name=f"layer{index}") for index in range(40)], layer()))
    assert max(map(len, text.splitlines())) <= 100
    # Each explanation is there once, and not with all the names.
    assert text.count("channels_last only") == 1
    assert "layer5, ..." in text
    assert "real layers in int8: top-1 agrees with float32 on 97.0%" in text
    assert "same signs before: 7 of 123,456 signs differ, by rounding" in text
    assert "images: symmetric, as given" in text
    assert text.endswith("latency here, one thread: float32 12.35 ms, int8 1.20 ms")
    assert "rewritten: computed in float32. (some_layer)" in text
    row = next(line for line in text.splitlines() if line.startswith("stage4"))
    assert row.endswith("  9,441,280  115,605,504")


class _Table(HTMLParser):
    """The cells of a table, and that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.rows[-1] if self.open[-1] in ("td", "th") else self.text).append(data)


def test_notebook_shows_a_table():
    report = report_of(layer(name="a<b>&c" * 20), layer(name="other"))
    table = _Table(report._repr_html_())
    assert table.open == []
    assert table.rows[0] == ["layer", "kind", "as", "note", "bytes", "MACs"]
    # In full and escaped.
    assert [row[0] for row in table.rows[1:]] == ["a<b>&c" * 20, "other"]
    assert table.rows[2][-2:] == ["9,441,280", "115,605,504"]
    text = "\n".join(table.text)
    assert "channels_last only" in text
    assert "7 of 123,456 signs differ, by rounding" in text
    assert text.endswith("float32 12.35 ms, int8 1.20 ms")


def test_total():
    total = Total.of([layer(), layer(weights=9, kernel_bytes=8, expected_kernel_bytes=2)])
    assert total == Total(
        layers=2,
        weights=2_359_305,
        macs=2 * 115_605_504,
        kernel_bytes=9_437_192,
        expected_kernel_bytes=294_914,
        other_bytes=8_192,
    )


def test_layers_of_a_birealnet(small):
    """Against figures that a person can compute."""
    report = small.report
    rows = {layer.name: layer for layer in report.layers}
    pixels = SIZE * SIZE
    weights = {
        "stem_conv": 9 * 3 * 16,
        "block1_conv": 9 * 16 * 16,
        "block2_conv": 9 * 16 * 40,
        "block3_conv": 9 * 40 * 40,
        "block2_shortcut_conv": 16 * 40,
        "head": 40 * CLASSES,
    }
    assert set(rows) == set(weights)
    positions = {"stem_conv": pixels, "block1_conv": pixels, "head": 1}
    for name, row in rows.items():
        assert row.weights == weights[name], name
        assert row.macs == weights[name] * positions.get(name, pixels // 4), name
    # 16 channels take a word of 32 bits, and 40 take two.
    words = {"block1_conv": 9 * 16, "block2_conv": 9 * 40, "block3_conv": 2 * 9 * 40}
    for name, count in words.items():
        assert rows[name].binary
        assert rows[name].fused
        assert rows[name].kernel_bytes == 4 * count
        assert rows[name].expected_kernel_bytes == weights[name] // 8
    # Each channel has a factor and a summand; the stem has one bias from its BatchNormalization.
    assert rows["block3_conv"].other_bytes == 2 * 4 * 40
    assert rows["stem_conv"].other_bytes == 4 * 16
    assert rows["stem_conv"].reason == "real"
    assert report.binary_total.kernel_bytes == 4 * sum(words.values())
    assert report.real_total.weights == sum(weights[n] for n in weights if n not in words)
    assert report.real_total.kernel_bytes == report.real_total.expected_kernel_bytes


def test_json(small):
    data = json.loads(json.dumps(small.report.as_dict()))
    assert [row["name"] for row in data["layers"]] == [row.name for row in small.report.layers]
    assert data["binary_total"]["layers"] == 3
    # They are in one level, and the same as the attributes.
    names = ("samples", "signs", "flips", "close_samples", "max_abs_difference", "top1_agreement")
    assert {name: data[name] for name in names} == {
        name: getattr(small.report, name) for name in names
    }
    assert data["samples"] == 32
    assert "agreement" not in data


def test_docs_explain_every_code():
    text = DOCS.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert rows == set(reasons.EXPLANATIONS)


def test_explanations_are_sentences():
    for code, text in reasons.EXPLANATIONS.items():
        explained = reasons.explain(code, "DETAIL")
        assert ("DETAIL" in explained) == ("{detail}" in text)
        assert explained[0].isupper()
        assert explained.endswith((".", "here.", ")."))
    assert reasons.explain("") == ""
