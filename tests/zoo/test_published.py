"""Published weights: by name, for the model they fit, and for no other."""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from photographs import squares

from bireal_keras import zoo
from bireal_keras._keras import keras
from bireal_keras.training import data
from bireal_keras.zoo import _published
from bireal_keras.zoo._registry import MODELS, weight_names

# All there are, by model, name and include_top.
PUBLISHED = {
    (model, *key): record
    for model, entry in MODELS.items()
    for key, record in entry.weights.items()
}
# Top-1 and top-5 in percent, as its documentation states.
LARQ_ZOO = {
    "BiRealNet18": (57.47, 79.84),
    "BinaryDenseNet28": (60.91, 82.83),
    "BinaryDenseNet37": (62.89, 84.19),
    "BinaryDenseNet45": (64.59, 85.21),
    "MeliusNet22": (62.4, 83.9),
    "QuickNet": (63.3, 84.6),
    "QuickNetLarge": (66.9, 87.0),
    "QuickNetSmall": (59.4, 81.8),
    "RealToBinaryNet": (65.01, 85.72),
}
SLIM = {"input_shape": (32, 32, 3), "num_classes": 10, "width": 4}


def slim(**kwargs):
    return zoo.BiRealNet18(**{**SLIM, **kwargs})


@pytest.fixture
def published(server, downloads, tmp_path, monkeypatch):
    """Weights of a slim model, served on this machine in place of the published ones."""
    model = slim()
    model.save_weights(tmp_path / "slim.h5")
    server.content = (tmp_path / "slim.h5").read_bytes()
    record = PUBLISHED["BiRealNet18", "imagenet", True]
    record = dataclasses.replace(
        record,
        url=server.url,
        sha256=hashlib.sha256(server.content).hexdigest(),
        arguments={**record.arguments, "num_classes": 10, "width": 4},
    )
    monkeypatch.setitem(MODELS["BiRealNet18"].weights, ("imagenet", True), record)
    return model.get_weights()


@pytest.mark.parametrize("key", PUBLISHED, ids=str)
def test_table(key):
    model, _, include_top = key
    record = PUBLISHED[key]
    assert re.fullmatch("[0-9a-f]{64}", record.sha256)
    assert record.licence == "Apache-2.0"
    if record.dataset == "ImageNet":
        assert record.normalization == zoo.imagenet.NORMALIZATION
        assert record.url.startswith("https://github.com/larq/zoo/releases/download/")
        assert (record.top1, record.top5) == LARQ_ZOO[model]
        assert "notop" in record.url or include_top
    arguments = set(MODELS[model].arguments)
    # These decide about shapes of weights or about what is computed with them.
    assert set(record.arguments) == arguments - {"input_shape", "input_tensor", "weights"} - (
        {"include_top"} if include_top else {"include_top", "num_classes"}
    )


CIFAR10 = {"input_shape": (32, 32, 3), "num_classes": 10, "width": 32, "stem": "cifar"}


@pytest.fixture(scope="module")
def cifar10():
    return zoo.BiRealNet18(**CIFAR10, weights="cifar10")


def test_weights_that_come_with_the_package(cifar10):
    record = PUBLISHED["BiRealNet18", "cifar10", True]
    path = Path(_published.__file__).with_name("weights") / record.url
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == record.sha256
    assert len(content) < 5e6
    kernels = [layer.kernel.numpy() for layer in cifar10.layers if hasattr(layer, "pad_values")]
    assert len(kernels) == 16
    for kernel in kernels:
        np.testing.assert_array_equal(np.abs(kernel), 1)


@pytest.mark.slow
def test_they_are_as_accurate_as_the_table_says(cifar10, shared_tfds):
    """It is measured on 1,000 of CIFAR-10's 10,000 test images, within the error of the sample."""
    split = data.load("cifar10", data_dir=shared_tfds).validation
    batches = data.evaluation_batches(split, image_size=32, num_classes=10, batch_size=1000)
    images, labels = next(iter(batches))
    predicted = cifar10.predict(images, batch_size=100, verbose=0).argmax(axis=1)
    top1 = PUBLISHED["BiRealNet18", "cifar10", True].top1 / 100
    error = (top1 * (1 - top1) / 1000) ** 0.5
    assert np.mean(predicted == labels.numpy().argmax(axis=1)) == pytest.approx(top1, abs=3 * error)


@pytest.mark.slow
def test_weights_bring_their_arguments(cifar10):
    model = zoo.BiRealNet18(weights="cifar10")
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 10))
    for weight, expected in zip(model.get_weights(), cifar10.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    smaller = zoo.BiRealNet18(weights="cifar10", input_shape=(16, 16, 3), width=32)
    assert smaller.input_shape == (None, 16, 16, 3)


def test_all_arguments_that_differ_are_named_at_once():
    with pytest.raises(
        ValueError,
        match=r"`weights`='cifar10' are published for num_classes=10, width=32, stem='cifar'\. "
        r"Received: num_classes=3, width=64, stem='imagenet'\.",
    ):
        zoo.BiRealNet18(weights="cifar10", num_classes=3, width=64, stem="imagenet")


@pytest.mark.slow
def test_the_statistics_they_learned_are_those_of_real_images(cifar10):
    """Each layer's mean of each channel, as training averaged it and as photographs give it.

    In the last stage they depend on what is in the images, and the photographs are of two things.
    A layer whose channels are permuted has a correlation below 0.3, and so have many after it.
    """
    norms = [layer for layer in cifar10.layers if hasattr(layer, "moving_mean")]
    norms = [layer for layer in norms if not layer.name.startswith("stage4")]
    assert len(norms) == 15
    images = squares(256, 32).astype(np.float32) / 127.5 - 1
    inputs = keras.Model(cifar10.input, [layer.input for layer in norms])
    for layer, values in zip(norms, inputs.predict(images, batch_size=64, verbose=0)):
        measured = values.mean(axis=(0, 1, 2))
        assert np.corrcoef(layer.moving_mean.numpy(), measured)[0, 1] > 0.75, layer.name


@pytest.mark.slow
def test_features_without_the_classifier_are_those_that_it_gets(cifar10):
    features = zoo.BiRealNet18(weights="cifar10", include_top=False)
    assert features.output_shape == (None, None, None, 256)
    images = squares(4, 32).astype(np.float32) / 127.5 - 1
    expected = keras.Model(cifar10.input, cifar10.get_layer("head_pool").input)
    np.testing.assert_array_equal(features(images), expected(images))
    with pytest.raises(ValueError, match=r"are published for width=32. Received: width=4\."):
        zoo.BiRealNet18(weights="cifar10", include_top=False, width=4, num_classes=7)


def test_files_are_kept_under_names_of_their_own():
    names = [record.url.rsplit("/", 1)[-1] for record in PUBLISHED.values()]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_downloads_and_loads(published, server, downloads):
    for _ in range(2):
        weights = slim(weights="imagenet").get_weights()
        for a, b in zip(weights, published, strict=True):
            np.testing.assert_array_equal(a, b)
    assert server.ranges == [None]
    assert [path.name for path in downloads.iterdir()] == ["weights.h5"]


@pytest.mark.slow
def test_broken_off_and_resumed(published, server):
    server.breaks_off_after = 20_000
    with pytest.raises(OSError, match=f"Cannot download {server.url}"):
        slim(weights="imagenet")
    server.breaks_off_after = None
    weights = slim(weights="imagenet").get_weights()
    np.testing.assert_array_equal(weights[0], published[0])
    assert server.ranges == [None, "bytes=20000-"]


def test_another_file_is_not_loaded(published, server):
    server.content = server.content[::-1]
    with pytest.raises(ValueError, match="must have the SHA-256"):
        slim(weights="imagenet")


@pytest.mark.parametrize(
    ("include_top", "argument"),
    [
        (True, {"num_classes": 10}),
        (True, {"width": 32}),
        (False, {"width": 32}),
        (True, {"stem": "cifar"}),
        (True, {"pad_values": 1}),
        (False, {"padding": "torch"}),
    ],
)
def test_models_they_do_not_fit(downloads, include_top, argument):
    """No attempt to download is made: the real address stands in the table."""
    [(name, value)] = argument.items()
    wanted = PUBLISHED["BiRealNet18", "imagenet", include_top].arguments[name]
    message = (
        f"`weights`='imagenet' are published for {name}={wanted!r}. Received: {name}={value!r}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        zoo.BiRealNet18(weights="imagenet", include_top=include_top, **argument)
    assert not downloads.exists()


@pytest.mark.slow
def test_names_that_nobody_published():
    with pytest.raises(
        ValueError, match=r"path .*, or 'cifar10' or 'imagenet' for BiRealNet18\. .*'ImageNet'"
    ):
        slim(weights="ImageNet")
    with pytest.raises(ValueError, match=r"of a weights file\. .*'imagenet', which is not a file"):
        zoo.BiRealNet34(**SLIM, weights="imagenet")


def test_order_of_layers_is_larq_zoo_s():
    """Keras assigns the arrays of a file by it. `make test-peers` proves it is theirs."""
    expected = ["stem_conv", "stem_bn"]
    for stage in range(1, 5):
        for block in range(1, 5):
            parts = ["conv", "bn"]
            if stage > 1 and block == 1:
                parts = ["conv", "shortcut_conv", "bn", "shortcut_bn"]
            expected += [f"stage{stage}_block{block}_{part}" for part in parts]
    for include_top in (True, False):
        model = slim(include_top=include_top)
        head = ["head_fc"] if include_top else []
        assert [layer.name for layer in model.layers if layer.weights] == expected + head


def test_names():
    assert weight_names("BiRealNet18") == ["cifar10", "imagenet"]
    assert weight_names("BiRealNet34") == []
    assert weight_names("QuickNet") == ["imagenet"]
