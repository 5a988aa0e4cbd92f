"""What models of every kind take and give, and that their files are right."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_helpers import build, larq_conv

from bireal_keras import export, runtime
from bireal_keras._keras import keras, tf
from bireal_keras.export import rewriting, signature
from bireal_keras.tflite.model import Graph

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
SHAPE = (8, 8, 4)


def features(x, name="conv"):
    x = larq_conv(8, name=name)(x)
    return L.BatchNormalization()(x)


def run(path, arrays):
    """A file on LiteRT with our delegate: {name of an output in Keras: its value}."""
    content = path.read_bytes()
    interpreter = Interpreter(
        model_content=content, experimental_delegates=[runtime.load_delegate()]
    )
    interpreter.allocate_tensors()
    graph = Graph(content)
    for name, values in arrays.items():
        interpreter.set_tensor(graph.input_names[name], values.astype(np.float32))
    interpreter.invoke()
    return {name: interpreter.get_tensor(index) for name, index in graph.output_names.items()}


def layers_without_input():
    return [
        L.Conv2D(8, 3, name="stem"),
        larq_conv(8, name="conv"),
        L.BatchNormalization(),
        L.GlobalAveragePooling2D(),
        L.Dense(3),
    ]


def called_on(count):
    def make():
        model = keras.Sequential(layers_without_input())
        model(np.zeros((count, *SHAPE), np.float32))
        return model

    return make


def built():
    model = keras.Sequential(layers_without_input())
    model.build((None, *SHAPE))
    return model


def fitted():
    model = keras.Sequential(layers_without_input())
    model.compile("sgd", "mse")
    model.fit(np.zeros((8, *SHAPE)), np.zeros((8, 3)), batch_size=4, verbose=0)
    return model


def fitted_and_loaded(tmp_path):
    path = tmp_path / "model.keras"
    fitted().save(path)
    return keras.models.load_model(path)


@pytest.mark.parametrize("make", [called_on(1), called_on(5), built, fitted])
def test_sequential_model_without_an_input(make, tmp_path):
    """Whatever number of images it saw first, at the first attempt."""
    model = make()
    report = export.convert(model, tmp_path / "model.tflite")
    assert [(layer.name, layer.binary) for layer in report.layers] == [
        ("stem", False),
        ("conv", True),
        ("dense", False),
    ]
    assert Graph((tmp_path / "model.tflite").read_bytes()).tensors[0].shape == (1, *SHAPE)
    assert signature.of(model).batch is None


def test_sequential_model_that_was_fitted_and_saved(tmp_path):
    """Its file says batches of 4, which nobody asked for."""
    model = fitted_and_loaded(tmp_path)
    assert model.input_shape == (4, *SHAPE)
    export.convert(model, tmp_path / "model.tflite")
    graph = Graph((tmp_path / "model.tflite").read_bytes())
    assert graph.tensors[graph.inputs[0]].shape == (1, *SHAPE)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="sub")
        self.stem, self.conv, self.norm, self.pool, self.head = layers_without_input()

    def call(self, x, training=None):
        x = self.norm(self.conv(self.stem(x)), training=training)
        return self.head(self.pool(x))


def test_subclassed_model(tmp_path):
    model = Subclassed()
    with pytest.raises(ValueError, match=r"call it once .*keras.Model\(inputs, model\(inputs\)\)"):
        export.convert(model, tmp_path / "model.tflite")
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    expected = model(images)
    report = export.convert(model, tmp_path / "model.tflite")
    assert (report.binary_convolutions, report.samples, report.close_samples) == (1, 32, 32)
    actual = runtime.Interpreter(tmp_path / "model.tflite").predict(images)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    # The advice of the message above, too.
    inputs = keras.Input(SHAPE)
    export.convert(keras.Model(inputs, model(inputs)), tmp_path / "model.tflite")


def test_several_inputs_and_outputs(tmp_path):
    """LCE orders both by names of its own; names and shapes are chosen to be in the way."""
    image, vector, number = (
        keras.Input(shape, name=name) for shape, name in ((SHAPE, "z"), ((8,), "a"), ((), "m"))
    )
    x = features(image)
    pooled = L.GlobalAveragePooling2D()(x)
    outputs = [
        L.Dense(3, name="d0")(pooled + vector),
        L.Dense(3, name="d1")(pooled) * tf.reshape(number, (-1, 1)),
        x,
    ]
    model = keras.Model([image, vector, number], outputs, name="several")
    path = tmp_path / "model.tflite"
    report = export.convert(model, path, real_layers="int8")
    assert report.binary_convolutions == 1
    assert (report.samples, report.top1_agreement, report.float32_agreement) == (32, None, None)

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1, *tensor.shape[1:])) for tensor in model.inputs]
    export.convert(model, path, samples=[np.repeat(values, 8, axis=0) for values in arrays])
    expected = model([values.astype(np.float32) for values in arrays])
    actual = run(path, dict(zip("zam", arrays)))
    for number, values in enumerate(expected):
        np.testing.assert_allclose(actual[f"output_{number}"], values, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"`labels` need .* one \(batch, classes\)"):
        export.convert(model, path, labels=["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"8, 4\) and \(8,\) and \(\)\. Received: .* \(3, 8, 8, 4\)\.$"
    ):
        export.convert(model, path, samples=[np.zeros((3, *SHAPE))])


def test_more_outputs_than_fingers(tmp_path):
    """output_10 comes before output_2 in the alphabet."""

    def layers(x):
        x = features(x)
        return [L.Conv2D(2, 1, name=f"head{index}")(x) for index in range(12)]

    model = build(layers, SHAPE)
    report = export.convert(model, tmp_path / "model.tflite")
    assert report.close_samples == 32


def test_a_wrong_output_is_named(tmp_path, lce, monkeypatch):
    from export_helpers import edit

    def layers(x):
        x = features(x)
        return [L.Conv2D(2, 1, name=f"head{index}")(x) for index in range(2)]

    model = build(layers, SHAPE)
    convert_saved_model = lce.convert_saved_model

    def with_an_error(folder):
        def change(data):
            data.view(np.float32)[:] *= 1.01

        return edit(convert_saved_model(folder), "CONV_2D", 1, change)

    monkeypatch.setattr(lce, "convert_saved_model", with_an_error)
    with pytest.raises(ValueError, match=r"its result [01] differs by .* computed by .*head[01]"):
        export.convert(model, tmp_path / "model.tflite", converter="lce")


@pytest.mark.parametrize("shape", [(12,), (12, 4), ()])
def test_inputs_that_are_not_images(shape, tmp_path):
    inputs = keras.Input(shape)
    x = tf.reshape(inputs, (-1, 1)) if shape == () else inputs
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
    report = export.convert(model, tmp_path / "model.tflite", labels=["a", "b", "c"])
    assert report.close_samples == 32


def test_a_fixed_number_of_images(tmp_path):
    """The file takes as many at a time; figures are for one image."""
    inputs = keras.Input(batch_shape=(3, *SHAPE))
    x = features(inputs)
    # It would not do with another number.
    x = tf.reshape(x, (3, 8 * 8 * 8))
    model = keras.Model(inputs, L.Dense(5)(x))
    path = tmp_path / "model.tflite"
    report = export.convert(model, path, real_layers="float16")
    assert report.samples == 33
    assert [layer.macs for layer in report.layers] == [8 * 8 * 9 * 4 * 8, 512 * 5]
    assert runtime.Interpreter(path).input_shape == (3, *SHAPE)
    images = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(
        runtime.Interpreter(path).predict(images), model(images), rtol=1e-2, atol=1e-2
    )
    with pytest.raises(ValueError, match=r"8 images, a multiple of 3, of .*\(8, 8, 8, 4\)"):
        export.convert(model, path, samples=np.zeros((8, *SHAPE)))


def mean_of_everything(x):
    return L.Lambda(tf.reduce_mean, name="mean")(x)


def mean_of_images(x):
    return L.Lambda(lambda x: tf.reduce_mean(x, axis=0), name="mean")(x)


def also_constants(x):
    """Such as the anchors of a detector."""
    anchors = tf.random.stateless_normal((1, 5, 4), seed=(0, 0))
    return [features(x), L.Lambda(lambda x: anchors + 0 * tf.reduce_sum(x[:1]), name="mean")(x)]


@pytest.mark.parametrize(
    ("layers", "batch", "shape"),
    [
        (mean_of_everything, None, r"\(\)"),
        (mean_of_everything, 4, r"\(\)"),
        (mean_of_images, None, r"\(8, 8, 4\)"),
        (also_constants, None, r"\(1, 5, 4\)"),
    ],
)
def test_outputs_without_a_row_for_each_image(layers, batch, shape, tmp_path):
    inputs = keras.Input(batch_shape=(batch, *SHAPE))
    model = keras.Model(inputs, layers(inputs))
    with pytest.raises(ValueError, match=rf"row for each image.* output 'mean' of shape {shape}"):
        export.convert(model, tmp_path / "model.tflite")


def test_outputs_of_a_subclassed_model_without_a_row_for_each_image(tmp_path):
    class Mean(keras.Model):
        def call(self, x):
            return x, tf.reduce_mean(x)

    model = Mean()
    model(np.zeros((2, *SHAPE), np.float32))
    with pytest.raises(ValueError, match=r"row for each image.* output 1 of shape \(\)"):
        export.convert(model, tmp_path / "model.tflite")


def test_dictionaries(tmp_path):
    a, b = keras.Input(SHAPE, name="b"), keras.Input(SHAPE, name="a")
    x = features(a)
    outputs = {"y": L.Dense(2)(x), "x": L.Dense(2)(x + features(b, "other"))}
    model = keras.Model({"first": a, "second": b}, outputs)
    assert export.convert(model, tmp_path / "model.tflite").close_samples == 32


@pytest.mark.parametrize(
    "layer",
    [
        L.RandomFlip("horizontal"),
        L.RandomRotation(0.1),
        L.RandomZoom(0.1),
        L.RandomContrast(0.1),
        L.RandomTranslation(0.1, 0.1),
        L.RandomCrop(6, 6),
        L.RandomBrightness(0.1),
        L.GaussianNoise(0.1),
        L.Dropout(0.3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_augmentation_inside_the_model(layer, tmp_path):
    """What only training does leaves nothing in the file."""
    model = build(lambda x: features(layer(x)), SHAPE)
    report = export.convert(model, tmp_path / "model.tflite")
    assert report.binary_convolutions == 1
    names = {
        operator.name for operator in Graph((tmp_path / "model.tflite").read_bytes()).operators
    }
    assert names <= {"LceQuantize", "LceBconv2d", "STRIDED_SLICE", "RESIZE_BILINEAR"}


def test_policy_that_is_still_global(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(lambda x: L.Dense(3)(L.Flatten()(features(x))), SHAPE)
        report = export.convert(model, tmp_path / "model.tflite")
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
        with pytest.raises(ValueError, match="it failed"), rewriting._policy("float32"):
            raise ValueError("it failed")
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert report.binary_convolutions == 1
    assert "conv" in report.cast_layers
    assert report.close_samples == 32
