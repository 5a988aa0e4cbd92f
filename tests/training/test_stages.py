"""The models that stages train and start from."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from bireal_keras import zoo
from bireal_keras._keras import keras
from bireal_keras.training import stages
from bireal_keras.zoo import _registry

SMALL = {"input_shape": (32, 32, 3), "num_classes": 3, "width": 4, "stem": "imagenet"}


def test_a_stem_takes_images_in_the_range_of_training():
    """What an ImageNet network computes of standardized images, away from the border."""
    model = zoo.BiRealNet18(**SMALL)
    rng = np.random.default_rng(0)
    norm = model.get_layer("stem_bn")
    norm.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in norm.get_weights()])
    features = keras.Model(model.input, norm.output)
    pixels = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    mean, std = (np.float32(part) for part in ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4]))
    expected = features((pixels - mean) / std).numpy()
    normalization = type(zoo.imagenet.NORMALIZATION)(tuple(mean), tuple(std))
    stages._take_symmetric_images(model, normalization)
    given = features(pixels / 127.5 - 1).numpy()
    np.testing.assert_allclose(given[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=2e-5)
    assert np.abs(given - expected).max() > 1e-3


def test_published_weights_are_loaded_for_the_range_of_training(tmp_path, monkeypatch):
    published = zoo.BiRealNet18(**SMALL)
    published.save_weights(tmp_path / "published.h5")
    weights = _registry.MODELS["BiRealNet18"].weights
    record = weights["imagenet", True]
    record = dataclasses.replace(
        record,
        url=str(tmp_path / "published.h5"),
        arguments={**record.arguments, "num_classes": 3, "width": 4},
    )
    monkeypatch.setitem(weights, ("imagenet", True), record)
    model = stages.load_model("BiRealNet18:imagenet", 32)
    for layer, before in zip(model.layers, published.layers):
        if layer.name == "stem_conv":
            scale = 127.5 / np.reshape(record.normalization.std, (1, 1, 3, 1))
            expected = before.kernel.numpy() * scale
            np.testing.assert_allclose(layer.kernel, expected, rtol=1e-6)
        elif layer.name != "stem_bn":
            for weight, expected in zip(layer.get_weights(), before.get_weights()):
                np.testing.assert_array_equal(weight, expected)


def test_how_a_models_classes_are_called(tmp_path, monkeypatch):
    for name in ("run/model.keras", "other.keras"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert stages.class_names(str(tmp_path / "run")) is None
    (tmp_path / "run" / "labels.txt").write_text("a\nb\n")
    for name in ("run", "run/model.keras"):
        assert stages.class_names(str(tmp_path / name)) == ("a", "b")
    assert stages.class_names(str(tmp_path / "other.keras")) is None
    # In whatever folder that is said.
    monkeypatch.chdir(tmp_path / "run")
    assert stages.class_names("BiRealNet18:cifar10") is None
    assert stages.replaced_classes("abc", "axy") == "'b' in place of 'x', 'c' in place of 'y'"
    assert stages.replaced_classes([*"abcdef"], [*"uvwxyz"]).endswith("'e' in place of 'y', ...")


def stage(**fields):
    return ml_collections.ConfigDict({"start": "previous", **fields})


def test_what_is_frozen():
    model = zoo.BiRealNet18(**SMALL)
    names = {layer.name for layer in model.layers if layer.weights}
    assert stages.frozen_layers(model, stage()) == set()
    assert stages.frozen_layers(model, stage(freeze="stem")) == {"stem_conv", "stem_bn"}
    assert stages.frozen_layers(model, stage(freeze="body")) == names - {"head_fc"}
    norms = stages.frozen_layers(model, stage(freeze="batch_norm"))
    # Stem, 16 convolutions and three shortcuts that change their shape.
    assert len(norms) == 20
    assert all(name.endswith("_bn") for name in norms)
    with pytest.raises(ValueError, match=r"`freeze` needs weights to keep.*freeze='stem'"):
        stages.frozen_layers(model, stage(freeze="stem", start="scratch"))
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"`freeze` must not be 'stem': .* has none"):
        stages.frozen_layers(dense, stage(freeze="stem"))


@pytest.mark.parametrize("part", ["body", "batch_norm"])
def test_statistics_that_are_frozen_are_not_reestimated(part):
    for fields in ({"freeze": part}, {"freeze": "stem", "reestimate_epochs": 2}):
        stages.check_reestimation(stage(**fields))
    message = rf"`reestimate_epochs` must be 0 .*freeze='{part}' and reestimate_epochs=2"
    with pytest.raises(ValueError, match=message):
        stages.check_reestimation(stage(freeze=part, reestimate_epochs=2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BiRealNet18:imagnet", "`weights` must be .*'cifar10' or 'imagenet' for BiRealNet18"),
        ("BiRealNet81:cifar10", "there is no model BiRealNet81:cifar10"),
    ],
)
def test_a_start_that_does_not_exist(name, message):
    with pytest.raises(ValueError, match=message):
        stages.load_model(name, 32)
