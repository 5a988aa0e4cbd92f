"""Every model of the registry, and what it is made of as counted by hand."""

import functools
import inspect
import re

import numpy as np
import pytest
from exact_weights import exact_images, set_exact_weights

from bireal_keras import runtime, zoo
from bireal_keras._keras import keras, lq
from bireal_keras.training import data
from bireal_keras.zoo import _model, _registry

MODELS = zoo.list_models()
REGISTRY = _registry.MODELS
BLOCKS = {18: (4, 4, 4, 4), 34: (6, 8, 12, 6), 50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
WIDTH, CLASSES = 8, 10


@functools.cache
def slim(name):
    """Narrow and for small images; the tests leave its weights alone, or set them first."""
    model = zoo.create_model(name, input_shape=(32, 32, 3), width=WIDTH, num_classes=CLASSES)
    set_exact_weights(model)
    return model


def conv(size, channels, filters):
    return size * size * channels * filters


def bn(channels):
    return 4 * channels


def resnet_parameters(name, width):
    family, depth = REGISTRY[name].family, REGISTRY[name].depth
    count = conv(7, 3, width) + bn(width)
    channels = width
    for stage, blocks in enumerate(BLOCKS[depth]):
        filters = width * 2**stage
        for block in range(blocks):
            if depth >= 50:
                wide = 4 * filters
                count += conv(1, channels, filters) + conv(3, filters, filters)
                count += conv(1, filters, wide) + bn(filters) + bn(filters) + bn(wide)
                if block == 0:
                    count += conv(1, channels, wide) + bn(wide)
                    if stage > 0:
                        count += conv(1, filters // 2, filters)
                channels = wide
                continue
            count += conv(3, channels, filters)
            count += bn(channels) if family == "XNORResNet" else bn(filters)
            if family == "ReActBiRealNet":
                count += channels + 3 * filters
            if channels != filters and family != "BinaryPlainNet":
                count += conv(1, channels, filters) + bn(filters)
            channels = filters
    if family == "XNORResNet":
        count += bn(channels)
    return count, channels


def realtobinary_parameters(name, width):
    count = conv(7, 3, width) + bn(width) + width
    channels = width
    for stage, blocks in enumerate(BLOCKS[18]):
        filters = width * 2**stage
        for _ in range(blocks):
            reduced = channels // 8
            count += bn(channels) + conv(3, channels, filters) + filters
            count += channels * reduced + reduced * filters
            if channels != filters:
                count += conv(1, channels, filters) + bn(filters)
            channels = filters
    return count, channels


def quicknet_parameters(name, width):
    multiples = (1, 2, 8, 16) if name == "QuickNetSmall" else (1, 2, 4, 8)
    # The second BN of the stem has means and variances only.
    narrow = width // 4
    count = conv(3, 3, narrow) + bn(narrow) + 9 * narrow + 2 * narrow
    count += conv(1, narrow, width) + bn(width)
    channels = width
    for multiple, blocks in zip(multiples, BLOCKS[34 if name == "QuickNetLarge" else 18]):
        filters = width * multiple
        if filters != channels:
            count += 9 * channels + conv(1, channels, filters) + bn(filters)
        count += blocks * (conv(3, filters, filters) + bn(filters))
        channels = filters
    return count, channels


# Blocks per stage, and the channels that the stages start with in parts of the growth rate.
DENSE = {
    "BinaryDenseNet28": ((6, 6, 6, 5), (1, 2.5, 3, 4)),
    "BinaryDenseNet37": ((6, 8, 12, 6), (1, 2, 3, 4)),
    "BinaryDenseNet45": ((6, 12, 14, 8), (1, 2.5, 4.5, 4.5)),
    "MeliusNet22": ((4, 5, 4, 4), (1, 2.5, 3.5, 4)),
}


def dense_parameters(name, width):
    count = conv(7, 3, width) + bn(width)
    if name == "MeliusNet22":  # convolutions of 1, 4 and 8 groups, fewer in a narrow network
        half = width // 2
        count = conv(3, 3, half) + conv(3, half // 4, half)
        count += conv(3, half // min(8, half), width) + bn(half) + bn(half) + bn(width)
    channels = width
    for blocks, start in zip(*DENSE[name]):
        if channels != width:
            count += bn(channels) + conv(1, channels, int(start * width))
        channels = int(start * width)
        for _ in range(blocks):
            count += bn(channels) + conv(3, channels, width)
            channels += width
            if name == "MeliusNet22":
                count += bn(channels) + conv(3, channels, width)
    return count + bn(channels), channels


def reactnet_parameters(name, width):
    count = conv(3, 3, width) + bn(width)
    channels = width
    for blocks, multiple in zip((1, 2, 2, 6, 2), (2, 4, 8, 16, 32)):
        for _ in range(blocks):
            filters = width * multiple
            count += conv(3, channels, channels) + bn(channels) + 4 * channels
            count += conv(1, channels, filters) + bn(filters) + channels + 3 * filters
            channels = filters
    return count, channels


COUNTS = {
    "RealToBinaryNet": realtobinary_parameters,
    "QuickNet": quicknet_parameters,
    "BinaryDenseNet": dense_parameters,
    "MeliusNet": dense_parameters,
    "ReActNet": reactnet_parameters,
}


def body_parameters(name, width):
    """All but the classifier's, moving averages included, and the channels of the features."""
    return COUNTS.get(REGISTRY[name].family, resnet_parameters)(name, width)


def default_width(name):
    return inspect.signature(getattr(zoo, name)).parameters["width"].default


def parameters(name, width=None, classes=1000):
    """Their number as Keras counts them."""
    count, channels = body_parameters(name, width or default_width(name))
    return count + channels * classes + classes


def one_bit_convolutions(name):
    family, depth = REGISTRY[name].family, REGISTRY[name].depth
    if name in DENSE:
        return sum(DENSE[name][0]) * (2 if name == "MeliusNet22" else 1)
    if family == "QuickNet":
        return 32 if name == "QuickNetLarge" else 16
    if family == "RealToBinaryNet":
        return 16
    if family == "ReActNet":
        return 2 * 13
    if REGISTRY[name].is_real:
        return 0
    # The first convolution of the first bottleneck is real.
    return sum(BLOCKS[depth]) if depth < 50 else 3 * sum(BLOCKS[depth]) - 1


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # What `count_params` of larq-zoo 2.4's models says.
        ("BiRealNet18", 11_699_112),
        ("QuickNet", 13_243_720),
        ("QuickNetSmall", 12_664_344),
        ("QuickNetLarge", 23_359_304),
        ("RealToBinaryNet", 11_995_624),
        ("BinaryDenseNet28", 5_150_504),
        ("BinaryDenseNet37", 8_734_120),
        ("BinaryDenseNet45", 13_939_240),
        ("MeliusNet22", 6_969_672),
        ("BiRealNet34", 21_814_696),
    ],
)
def test_count_by_hand(name, count):
    assert parameters(name) == count


# By name and argument: what `BiRealNet18` has in place of a default that is another.
OTHER_DEFAULTS = {
    **{(name, "pad_values"): 0.0 for name in MODELS if REGISTRY[name].family == "QuickNet"},
    ("QuickNetSmall", "width"): 64,
    ("ReActNetA", "width"): 64,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_parameters(self, name):
        assert slim(name).count_params() == parameters(name, WIDTH, CLASSES)

    def test_documentation_says_how_many(self, name):
        """It may say nothing, as a twin's does."""
        said = re.findall(r"([\d,]+) parameters", getattr(zoo, name).__doc__)
        assert said in ([], [f"{parameters(name):,}"])
        assert said or any(part in name for part in ("Float", "BinaryResNet"))

    def test_one_bit_convolutions(self, name):
        layers = [layer for layer in slim(name).layers if isinstance(layer, lq.layers.QuantConv2D)]
        assert len(layers) == one_bit_convolutions(name)
        for layer in layers:
            assert layer.input_quantizer.precision == layer.kernel_quantizer.precision == 1
            assert not layer.use_bias
            assert layer.pad_values == (REGISTRY[name].family == "QuickNet")

    def test_arguments(self, name):
        signature = inspect.signature(getattr(zoo, name))
        twin = REGISTRY[name].is_real
        assert list(REGISTRY[name].arguments) == [
            *("input_shape", "input_tensor", "weights", "include_top", "num_classes"),
            *("width", "stem", "padding", "activation" if twin else "pad_values"),
        ]
        template = inspect.signature(zoo.BiRealNet18Float if twin else zoo.BiRealNet18)
        for parameter in signature.parameters.values():
            assert parameter.kind is parameter.KEYWORD_ONLY
            default = OTHER_DEFAULTS.get((name, parameter.name), parameter.default)
            assert parameter.replace(default=default) == template.parameters[parameter.name]
        assert getattr(zoo, name).__name__ == slim(name).name == name
        assert REGISTRY[name].build is getattr(zoo, name)

    def test_name_follows_from_the_traits(self, name):
        entry = REGISTRY[name]
        size = name.removeprefix(entry.family)
        assert size in {
            f"{entry.depth or ''}{'Float' if entry.is_real else ''}",
            *{"QuickNet": {"Small", "Large"}, "ReActNet": {"A"}}.get(entry.family, set()),
        }

    def test_documentation_states_the_accuracy(self, name):
        text = " ".join(getattr(zoo, name).__doc__.split())
        top1 = REGISTRY[name].top1
        assert (f"{top1} % top-1" in text) == (top1 is not None)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [("stem", "mnist"), ("padding", "valid"), ("width", 0), ("input_shape", (31, 32, 3))],
    )
    def test_bad_argument(self, name, argument, value):
        arguments = {"input_shape": (32, 32, 3), "width": WIDTH, argument: value}
        received = re.escape(f"{argument}={value!r}")
        with pytest.raises(ValueError, match=rf"`{argument}` must .*{received}"):
            zoo.create_model(name, **arguments)

    def test_bad_argument_of_one_kind(self, name):
        argument, value = ("activation", "tanh") if REGISTRY[name].is_real else ("pad_values", 0.5)
        with pytest.raises(ValueError, match=rf"`{argument}` must be .*{argument}={value!r}"):
            zoo.create_model(name, **{argument: value})

    def test_probabilities(self, name):
        model = slim(name)
        y = model(exact_images(32, 2)).numpy()
        assert y.shape == (2, CLASSES)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
        assert np.ptp(y, axis=0).max() > 1e-3
        _, features = body_parameters(name, WIDTH)
        assert model.get_layer("head_pool").input_shape == (None, 1, 1, features)

    def test_larq_summary(self, name, capsys):
        lq.models.summary(slim(name))
        out = capsys.readouterr().out
        layers = [layer for layer in slim(name).layers if isinstance(layer, lq.layers.QuantConv2D)]
        if layers:
            bits = sum(int(np.prod(layer.kernel.shape)) for layer in layers)
            assert re.search(rf"\| Total +{bits} ", out)
        else:
            assert "Ratio of MACs that are binarized" not in out


class TestCreateModel:
    def test_lists_every_model(self):
        assert zoo.list_models() == sorted(name for name in zoo.__all__ if name[0].isupper())
        assert len(zoo.list_models()) == 25

    def test_lists_those_with_published_weights(self):
        assert zoo.list_models(pretrained=True) == [
            *("BiRealNet18", "BinaryDenseNet28", "BinaryDenseNet37", "BinaryDenseNet45"),
            *("MeliusNet22", "QuickNet", "QuickNetLarge", "QuickNetSmall", "RealToBinaryNet"),
        ]

    def test_unknown_name(self):
        with pytest.raises(
            ValueError, match=r"`name` must be one of \['BiReal.*name='MobileNet'\.$"
        ):
            zoo.create_model("MobileNet")

    def test_mistyped_name(self):
        with pytest.raises(ValueError, match=r"Received: name='BiRealNet81'\. Near: BiRealNet18, "):
            zoo.create_model("BiRealNet81")

    def test_unknown_argument(self):
        with pytest.raises(ValueError, match=r"BiRealNet18: .*'classes'"):
            zoo.create_model("BiRealNet18", classes=10)


# They are one of each kind of block; the deeper ones repeat them. `make test-zoo` tests all.
EXPORTED = [
    *((name, {}) for name in MODELS if REGISTRY[name].depth == 18),
    *((name, {}) for name in ("BiRealNet50", "BinaryDenseNet28", "MeliusNet22", "QuickNet")),
    *((name, {}) for name in ("ReActNetA", "RealToBinaryNet")),
    ("BiRealNet18", {"padding": "torch", "stem": "cheap"}),
    ("BiRealNet18", {"padding": "torch", "stem": "imagenet", "pad_values": 1}),
]


@pytest.mark.proof
@pytest.mark.parametrize(
    ("name", "arguments"),
    EXPORTED,
    ids=[f"{name}{arguments or ''}" for name, arguments in EXPORTED],
)
def test_exports_and_agrees_with_keras(name, arguments, tmp_path):
    from bireal_keras import export

    model = slim(name)
    if arguments:
        model = zoo.create_model(name, input_shape=(32, 32, 3), width=WIDTH, **arguments)
        set_exact_weights(model)
    images = exact_images(32, 8)
    report = export.convert(model, tmp_path / "model.tflite", samples=images)
    assert report.binary_convolutions == one_bit_convolutions(name)
    assert report.close_samples == len(images)
    expected = model.predict(images, verbose=0)
    output = runtime.Interpreter(tmp_path / "model.tflite").predict(images)
    np.testing.assert_allclose(output, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(("BiRealNet50", ".keras"), ("ReActBiRealNet18", ".h5"), ("XNORResNet18", ".keras")),
        *(("MeliusNet22", ".keras"), ("QuickNet", ".h5")),
    ],
)
def test_save_and_load(name, suffix, tmp_path):
    saved = slim(name)
    saved.save(tmp_path / f"model{suffix}")
    loaded = keras.models.load_model(tmp_path / f"model{suffix}")
    np.testing.assert_array_equal(loaded(exact_images(32, 2)), saved(exact_images(32, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_save_weights_and_load(name, tmp_path):
    model = slim(name)
    before = model.get_weights()
    model.save_weights(tmp_path / "weights.h5")
    model.set_weights([np.zeros_like(weight) for weight in before])
    model.load_weights(tmp_path / "weights.h5")
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem", "size", "map_size", "channels"),
    [
        *(("BiRealNet50", "cifar", 33, 5, 64), ("BiRealNet18", "cheap", 65, 3, 16)),
        *(("QuickNet", "imagenet", 65, 2, 16), ("MeliusNet22", "imagenet", 65, 3, 16)),
        *(("BinaryDenseNet28", "imagenet", 65, 2, 18), ("ReActNetA", "imagenet", 65, 3, 64)),
        ("RealToBinaryNet", "imagenet", 65, 3, 16),
    ],
)
def test_features_of_any_size(name, stem, size, map_size, channels):
    model = zoo.create_model(name, include_top=False, width=2, stem=stem)
    assert model.output_shape == (None, None, None, channels)
    assert model(exact_images(size, 1)).shape == (1, map_size, map_size, channels)


def test_a_family_brings_its_own_stem_and_head():
    """As networks do that are no ResNets."""

    def patches(x, filters, *, padding):
        return keras.layers.Conv2D(filters, 4, strides=4, padding=padding, name="patches")(x)

    def head(x, num_classes):
        return keras.layers.Dense(num_classes)(keras.layers.GlobalMaxPooling2D()(x))

    def build(input_shape=None):
        return _model.classifier(
            "Patches",
            keras.layers.ReLU(),
            stem="patches",
            stems={"patches": _model.Stem(patches, default_size=48, min_size=4)},
            head=head,
            **{"input_tensor": None, "weights": None, "include_top": True},
            **{"num_classes": 7, "width": 5, "padding": "same", "input_shape": input_shape},
        )

    model = build()
    assert (model.input_shape, model.output_shape) == ((None, 48, 48, 3), (None, 7))
    assert model.get_layer("patches").output_shape == (None, 12, 12, 5)
    assert isinstance(model.layers[-2], keras.layers.GlobalMaxPooling2D)
    with pytest.raises(ValueError, match=r"`input_shape` must be at least \(4, 4, 3\)"):
        build(input_shape=(3, 8, 3))


def test_torch_padding_needs_a_known_size():
    with pytest.raises(ValueError, match=r"height and a width.*padding='torch'.*\(None, None, 3\)"):
        zoo.BiRealNet18(include_top=False, padding="torch")


@pytest.mark.proof
def test_transfer_to_other_digits():
    """A backbone trained on the digits 0 to 4 serves a new head to tell 5 to 9; chance is 20 %."""
    backbone = zoo.BiRealNet18(include_top=False, input_shape=(16, 16, 3), width=8, stem="cifar")

    def classifier():
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
        model = keras.Model(backbone.input, keras.layers.Dense(5, activation="softmax")(pooled))
        optimizer = keras.optimizers.legacy.Adam(0.01)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def digits(split, first, count):
        images, labels = [], []
        for source, label in split.examples.as_numpy_iterator():
            if first <= label < first + 5 and len(labels) < count:
                image = np.pad(source, ((2, 2), (2, 2), (0, 0)))[::2, ::2]
                images.append(image / 127.5 - 1)
                labels.append(label - first)
        return np.float32(images), np.array(labels)

    mnist = data.load("mnist_5k")
    classifier().fit(*digits(mnist.train, 0, 1000), epochs=3, batch_size=32, verbose=0)

    backbone.trainable = False
    before = backbone.get_weights()
    head = classifier()
    head.fit(*digits(mnist.train, 5, 500), epochs=10, batch_size=32, verbose=0)
    _, accuracy = head.evaluate(*digits(mnist.validation, 5, 250), verbose=0)
    assert accuracy > 0.6
    for a, b in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
