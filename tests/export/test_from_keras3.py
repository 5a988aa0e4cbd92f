"""Models of Keras 3 and SavedModels, to checked files."""

import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from commands import command

# Importing it first makes legacy Keras that of TensorFlow, as in all other tests.
from bireal_keras import export, runtime
from bireal_keras.runtime import Normalization, read_metadata

pytest.importorskip("keras", reason="Keras 3 comes with TensorFlow only")

import keras

from bireal_keras.keras3 import ApproxSign, MagnitudeAwareSign, QuantConv2D

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
SHAPE = (8, 8, 3)


def conv(channels, **kwargs):
    quantizers = {"input_quantizer": ApproxSign(), "kernel_quantizer": MagnitudeAwareSign()}
    return QuantConv2D(channels, 3, padding="same", use_bias=False, **{**quantizers, **kwargs})


def blocks(x):
    x = L.Conv2D(32, 3, padding="same", name="stem")(x)
    for number, options in enumerate(({}, {"pad_values": 1})):
        y = conv(32, name=f"block{number}", **options)(x)
        x = L.Add()([x, L.BatchNormalization()(y)])
    return conv(8, strides=2, name="down")(x)


def build(layers, *inputs):
    """A functional model with random statistics."""
    keras.utils.set_random_seed(0)
    inputs = inputs or (keras.Input(SHAPE),)
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, layers(*inputs), name="three")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.gamma.assign(rng.uniform(-1, 1, layer.gamma.shape))
    return model


def classifier(x):
    return L.Dense(5)(L.GlobalAveragePooling2D()(blocks(x)))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A model, its file and its report."""
    model = build(classifier)
    path = tmp_path_factory.mktemp("keras3") / "model.tflite"
    return model, path, export.convert(model, path, labels=list("abcde"), center_crop=0.875)


def test_report(converted):
    _, path, report = converted
    assert (report.binary_convolutions, report.intended_binary_convolutions) == (3, 3)
    assert (report.float_convolutions, report.samples, report.close_samples) == (1, 32, 32)
    assert report.size_bytes == path.stat().st_size
    metadata = read_metadata(path)
    assert metadata.labels == tuple("abcde")
    assert (metadata.image_size, metadata.center_crop) == ((8, 8), 0.875)


def test_file_gives_what_keras_gives(converted):
    """A sign may flip; an error in the file shows on every image."""
    model, path, _ = converted
    images = np.random.default_rng(7).normal(size=(16, *SHAPE)).astype(np.float32)
    expected = np.asarray(model(images))
    actual = runtime.Interpreter(path).predict(images)
    close = np.abs(actual - expected).max(axis=1) < 1e-4
    assert expected.std(axis=0).min() > 0.01
    assert close.mean() > 0.75


def test_several_inputs_and_outputs(tmp_path):
    def layers(image, vector):
        x = L.GlobalAveragePooling2D()(blocks(image))
        return {"sum": L.Dense(3)(x + vector), "maps": L.Dense(2)(x)}

    model = build(layers, keras.Input(SHAPE, name="image"), keras.Input((8,), name="vector"))
    report = export.convert(model, tmp_path / "model.tflite")
    assert report.binary_convolutions == 3


def norm():
    """With statistics that a training of two hundred steps settles."""
    return L.BatchNormalization(momentum=0.9)


def residual(x, channels, *, strides=1):
    """A block of one binary layer, as the project's legacy models have them."""
    shortcut = x
    if strides > 1:
        shortcut = L.Conv2D(channels, 1, use_bias=False)(L.AveragePooling2D(strides)(x))
        shortcut = norm()(shortcut)
    y = conv(channels, strides=strides)(x)
    return L.Add()([shortcut, norm()(y)])


@pytest.mark.proof
def test_a_trained_network_finds_the_classes_that_keras_finds(shared_tfds, tmp_path):
    """Of 256 real images, after a training that tells the classes apart."""
    import tensorflow_datasets as tfds

    def load(split):
        found = tfds.load(
            "cifar10", split=split, data_dir=str(shared_tfds), batch_size=-1, download=False
        )
        return found["image"].numpy() / np.float32(127.5) - 1, found["label"].numpy()

    def layers(x):
        x = norm()(L.Conv2D(32, 3, padding="same", use_bias=False)(x))
        for channels, strides in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
            x = residual(x, channels, strides=strides)
        return L.Dense(10)(L.GlobalAveragePooling2D()(x))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, layers(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(*load("train[:6000]"), batch_size=64, epochs=2, verbose=0)
    path = tmp_path / "model.tflite"
    assert export.convert(model, path).binary_convolutions == 6

    images, labels = load("test[:256]")
    expected = model.predict(images, verbose=0)
    actual = runtime.Interpreter(path).predict(images)
    right = (expected.argmax(axis=1) == labels).mean()
    agree = (actual.argmax(axis=1) == expected.argmax(axis=1)).sum()
    print(
        f"Keras 3 finds {right:.0%}, the file the same on {agree} of 256; it is off by up to "
        f"{np.abs(actual - expected).max():.1e}"
    )
    # Five standard deviations above chance, which is 10 %.
    assert right > 0.2
    assert agree == 256


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: build(lambda x: x), {"converter": "lce"}, "LCE works with legacy Keras only"),
        (Subclassed, {}, r"`model` must know its input: wrap it, keras.Model\(inputs"),
        (
            lambda: build(lambda x: x, keras.Input((None, 8, 3))),
            {},
            r"fixed sizes.*Received: float32 \(None, None, 8, 3\)",
        ),
        (lambda: build(lambda x: x, keras.Input(SHAPE, dtype="uint8")), {}, "Received: uint8"),
        (lambda: build(L.Dense(2, dtype="mixed_bfloat16", name="d")), {}, r"float32'.*\['d'\]"),
        (lambda: build(L.Rescaling(1 / 255, name="r")), {}, "`normalization` must say .* layer r"),
        (lambda: build(lambda x: x), {"labels": ["a"]}, "`labels` need a model"),
        (lambda: build(lambda x: x), {"real_layers": "int4"}, "`real_layers` must be one of"),
    ],
)
def test_unfit(make, options, message, tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=message):
        export.convert(make(), path, **options)
    assert not path.exists()


def test_layer_that_stays_float_is_named(tmp_path):
    """TensorFlow names its result, the model's, after no layer."""
    model = build(lambda x: conv(8, name="odd", input_quantizer=keras.ops.sign)(x))
    with pytest.raises(ValueError, match=r"odd.* \(tf_sign\): Its input's sign gives 0 for 0"):
        export.convert(model, tmp_path / "model.tflite")


def test_what_the_caller_says_of_the_images(tmp_path):
    model = build(lambda x: conv(8)(L.Rescaling(1 / 255)(x)))
    report = export.convert(
        model, tmp_path / "model.tflite", normalization=Normalization.parse("raw")
    )
    assert report.images == "raw, as given"


@pytest.mark.parametrize("first", ["keras", "bireal_keras"])
def test_whichever_is_imported_first(first, tmp_path):
    """Where Keras 3 is TensorFlow's own Keras, and where legacy Keras is."""
    code = f"""
        import {first}
        import bireal_keras, keras
        from bireal_keras.keras3 import ApproxSign, MagnitudeAwareSign, QuantConv2D

        x = inputs = keras.Input((8, 8, 3))
        x = QuantConv2D(
            8, 3, input_quantizer=ApproxSign(), kernel_quantizer=MagnitudeAwareSign()
        )(x)
        report = bireal_keras.export.convert(keras.Model(inputs, x), {str(tmp_path / "m.tflite")!r})
        print(report.binary_convolutions)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert found.stdout.split()[-1:] == ["1"], found.stderr[-2000:]


def test_command_takes_a_saved_model(tmp_path):
    folder = tmp_path / "model"
    build(classifier).export(folder, verbose=False)
    found = command("export", f"--model={folder}", f"--json={tmp_path / 'report.json'}")
    assert found.returncode == 0, found.stderr
    assert "convolutions: 3 bit-packed" in found.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["path"] == str(tmp_path / "model.tflite")
    assert runtime.Interpreter(tmp_path / "model.tflite").input_shape == (1, *SHAPE)


def test_command_refuses_what_is_not_a_saved_model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"no model")
    found = command("export", f"--model={folder}")
    assert found.returncode == 1
    assert "TensorFlow cannot convert" in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


def test_page(repository, tmp_path, monkeypatch, capsys):
    """docs/keras3.md prints what it says."""
    page = (repository / "docs/keras3.md").read_text("utf-8")
    [(code, expected)] = re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```\n", page, re.DOTALL | re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "keras3.md", "exec"), {})
    assert capsys.readouterr().out == expected
