"""Writes docs/models: a card for every model of the zoo, and a table of all.

    make cards

A card says what the model is, in the words of its docstring; what it costs, as
`bireal_keras.cost` counts it; how large its file is and how long it takes, as
benchmarks/models.py measured it (docs/models/measured.json); and how long it should take on a
Raspberry Pi, as benchmarks/predict.py predicts it (docs/models/predicted.json).
"""

import inspect
import json
from pathlib import Path

from bireal_keras import cost, zoo
from bireal_keras._keras import keras, lq
from bireal_keras.zoo import _registry

FOLDER = Path(__file__).parents[1] / "docs/models"
# What the figures mean, in words: written by hand, to be read again when they are measured anew.
_WHAT_TO_TAKE = """\
**Which to take.** Of 1-bit networks `QuickNetSmall`, `QuickNet`, `ReActBiRealNet18`,
`QuickNetLarge` or `ReActNetA`, by the time that you have: each is more accurate than all that take
no longer. Bi-Real Net 18 is the one to study and to compare with; `ReActBiRealNet18` adds nine
points to it and a twentieth to its time. BinaryDenseNet, MeliusNet and Bi-Real Net 34 to 152 are
here for comparison: others are better and faster.

**Where 1 bit does not pay off.** On a PC's CPU, whose float and int8 multiplications are fast:
there MobileNetV3Small in float32 is faster than `QuickNetSmall` and more accurate than all but
`ReActNetA`. Nor does the size of the file decide, of which most is the real classifier and
shortcuts: MobileNetV2 in int8 is smaller than every 1-bit network of the table. Predictions for a
Raspberry Pi 4 and 5 say the same: 8.1 and 2.3 ms for MobileNetV3Small in int8, 14.2 and 7.5 for
`QuickNetSmall`. They are least sure of networks of many small layers, as MobileNets are, so measure
before you decide: [Deploy on a Raspberry Pi](../pi.md)."""
_PICTURE = "models.png"
_BOARDS = {
    "Raspberry Pi 4": "Pi 4, predicted ms",
    "Raspberry Pi 5": "Pi 5, predicted ms",
}
_PREDICTED = "[predicted](../kernels.md#predicted-without-an-arm)"
_LITERATURE = (
    "Accuracies in the text are those that its source states; none of these networks has been "
    "trained on ImageNet by us."
)


def main() -> None:
    cards = {}
    rows = []
    for name in zoo.list_models():
        print(name, flush=True)
        card, row = describe(name)
        cards[f"{name}.md"] = card
        rows.append(row)
        keras.backend.clear_session()
    cards["README.md"] = index(rows)
    for path in FOLDER.glob("*.md"):
        path.unlink()
    for file, text in cards.items():
        (FOLDER / file).write_text(text, encoding="utf-8")


def describe(name: str) -> tuple[str, list[str]]:
    """A model's card, and its row in the table of all models."""
    model = zoo.create_model(name)
    binary = sum(isinstance(layer, lq.layers.QuantConv2D) for layer in model.layers)
    costs = cost.of_model(model)
    total = costs.total
    measured = measurements()
    figures = measured["models"].get(name)
    size = f"{figures['bytes']:,}" if figures else ""
    milliseconds = f"{figures['milliseconds']:.1f}" if figures else ""

    rows = [
        ["parameters", f"{model.count_params():,}", "Keras' count"],
        ["1-bit convolutions", f"{binary}", "the model's layers"],
        ["binary MACs", _figure(total.binary_macs), f"`bireal-cost {name}`"],
        ["real MACs", _figure(total.real_macs), "the same"],
        [
            "FLOPs, real MACs + binary MACs / 64",
            f"{_figure(total.flops)}, {costs.flops_ratio:.2f} times fewer than in 32 bits",
            "the same",
        ],
        [
            "weights",
            f"{total.memory_bits / 1e6:.2f} Mbit, {costs.memory_ratio:.2f} times less than in "
            "32 bits",
            "the same",
        ],
    ]
    if figures:
        rows += [
            ["`.tflite` file", f"{size} bytes", "measured, benchmarks/models.py"],
            ["latency, 1 thread", f"{milliseconds} ms", f"measured, {measured['machine']}"],
        ]
    for board, value in predictions().get(name, {}).items():
        rows.append([f"latency on a {board}, 1 thread", f"{value:.1f} ms", _PREDICTED])
    for (weights, include_top), published in _registry.MODELS[name].weights.items():
        if include_top:
            figures = {"top-1": published.top1, "top-5": published.top5}
            stated = {what: f"{value} %" for what, value in figures.items() if value is not None}
            rows.append(
                [
                    f'{" and ".join(stated)} on {published.dataset} of weights="{weights}"',
                    " and ".join(stated.values()),
                    f"{published.source}, {published.licence}",
                ]
            )
    text = [
        f"# {name}",
        _about(name),
        f"```python\nfrom bireal_keras import zoo\n\nmodel = zoo.{name}()\n```",
        _table(["at 224x224, 1,000 classes", "", "where from"], rows),
        _LITERATURE,
    ]
    row = [
        f"[{name}]({name}.md)",
        f"{model.count_params():,}",
        f"{binary}",
        _figure(total.flops),
        f"{total.memory_bits / 1e6:.1f}",
        f"{_registry.MODELS[name].top1 or ''}",
        size,
        milliseconds,
        *_predicted(name),
    ]
    return "\n\n".join(text) + "\n", row


def index(rows: list[list[str]]) -> str:
    """docs/models/README.md."""
    header = ["", "parameters", "1-bit layers", "FLOPs", "Mbit", "top-1, %", "file, bytes", "ms"]
    header += _BOARDS.values()
    measured = measurements()
    text = [
        "# Models",
        _WHAT_TO_TAKE,
        f"![Accuracy over latency, size and predicted latency]({_PICTURE})",
        _table(
            ["", "kind", "top-1, %", "file, bytes", "ms", *_BOARDS.values()], _comparison(measured)
        ),
        "At 224x224 with 1,000 classes and one thread, the least time of a CPU that a run took: "
        f"{measured['machine']} 1-bit networks ran on our runtime, the others, which have random "
        "weights of `keras.applications`, on LiteRT with XNNPACK. `python benchmarks/models.py` "
        "measures and draws anew.",
        f"What a Raspberry Pi should take is {_PREDICTED} by `python benchmarks/predict.py`: no "
        "network of this page was measured on one by us. All are counted in the same way, and all "
        "times are probably too short: networks that others have measured there took 1.3 to 2 "
        "times what the method predicts for them.",
        "Top-1 is literature, none of it is measured by us: of 1-bit networks as their cards say; "
        f"of the others {_sources()}. Where no source has one, there is none, and the network is "
        "not in the picture.",
        "## All models of the zoo",
        "Every model of `bireal_keras.zoo`, at 224x224 with 1,000 classes. FLOPs and Mbit are by "
        "the paper's convention, see [cost.md](../cost.md). File and time are of the same run; "
        "those that it left out have none.",
        _table(header, rows),
        "`make cards` writes these pages from the models themselves.",
    ]
    return "\n\n".join(text) + "\n"


def _comparison(measured: dict) -> list[list[str]]:
    """All networks with an accuracy in literature, and all others' twins, the fastest first."""
    rows = []
    for name, figures in measured["models"].items():
        if _registry.MODELS[name].top1 is not None:
            top1 = _registry.MODELS[name].top1
            rows.append((f"[{name}]({name}.md)", "1-bit", top1, figures, _predicted(name)))
    for name, figures in measured["others"].items():
        network, kind = name.split(" ")
        rows.append((network, kind, figures["top1"], figures, _predicted(name)))
    rows.sort(key=lambda row: row[3]["milliseconds"])
    return [
        [
            name,
            kind,
            f"{top1 or ''}",
            f"{figures['bytes']:,}",
            f"{figures['milliseconds']:.1f}",
            *predicted,
        ]
        for name, kind, top1, figures, predicted in rows
    ]


def _predicted(name: str) -> list[str]:
    """Cells of the columns of `_BOARDS`."""
    figures = predictions().get(name, {})
    return [f"{figures[board]:.1f}" if board in figures else "" for board in _BOARDS]


def _sources() -> str:
    """Whose accuracies the real-valued networks have."""
    by_source: dict[str, list[str]] = {}
    for name, figures in measurements()["others"].items():
        if figures["top1"] is not None:
            by_source.setdefault(figures["source"], []).append(name)
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items())


def measurements() -> dict:
    """What benchmarks/models.py wrote."""
    return json.loads((FOLDER / "measured.json").read_text(encoding="utf-8"))


def predictions() -> dict:
    """What benchmarks/predict.py wrote, milliseconds by name and board."""
    return json.loads((FOLDER / "predicted.json").read_text(encoding="utf-8"))["models"]


def _figure(value: float) -> str:
    """1.640e8, as papers write it."""
    digits, exponent = f"{value:.3e}".split("e")
    return f"{digits}e{int(exponent)}"


def _about(name: str) -> str:
    """The docstring of a model's function, down to its arguments."""
    text = inspect.getdoc(getattr(zoo, name)) or ""
    for end in ("\nArgs:", "\nArguments"):
        text = text.partition(end)[0]
    return text.strip()


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
