"""A checkpoint of larq-zoo's is one of ours, for every network that both have: `make test-peers`.

Two TensorFlows of different versions round differently, and a value within rounding of zero may
turn its sign; see test_larq_zoo.py. So what larq-zoo's network computes is compared sign by sign:
ours is told the signs of the file that LCE's converter made of larq-zoo's model, and then every
value before a sign, and every result, has to agree up to rounding, on every image; see
`bireal_keras.export.comparison`.

The results of the two Kerases agree on most images as they are. In Real-to-Binary nets every value
before a sign went through a sigmoid, which the two approximate differently, and three of eight
images have no sign that turns. With a single wrong weight no image would agree.
"""

from pathlib import Path

import numpy as np
import pytest
from lce_layers import assert_same_layer, bconvs

from bireal_keras import export, zoo
from bireal_keras._keras import keras
from bireal_keras.export import comparison, probes
from bireal_keras.zoo import _registry

FOLDER = Path(__file__).parents[3] / "_build/peers/models"
# larq-zoo's name: ours and how many convolutions are 1-bit.
MODELS = {
    "BiRealNet": ("BiRealNet18", 16),
    "BinaryDenseNet28": ("BinaryDenseNet28", 23),
    "BinaryDenseNet37": ("BinaryDenseNet37", 32),
    "BinaryDenseNet45": ("BinaryDenseNet45", 40),
    "MeliusNet22": ("MeliusNet22", 34),
    "QuickNet": ("QuickNet", 16),
    "QuickNetLarge": ("QuickNetLarge", 32),
    "QuickNetSmall": ("QuickNetSmall", 16),
    "RealToBinaryNet": ("RealToBinaryNet", 16),
}


def test_all_whose_weights_larq_zoo_publishes():
    ours = sorted(name for name, _ in MODELS.values())
    assert ours == zoo.list_models(pretrained=True)
    for name in ours:
        assert "larq/zoo" in _registry.MODELS[name].weights["imagenet", True].url


@pytest.mark.parametrize("name", MODELS)
def test_told_its_signs_ours_computes_what_larq_zoos_does(name):
    ours, count = MODELS[name]
    model = zoo.create_model(ours, weights=FOLDER / f"{name}.h5")
    inputs = np.load(FOLDER / f"{name}.npz")["inputs"]
    content = (FOLDER / f"{name}.tflite").read_bytes()
    # LCE's interpreter adds the 56x56 values of a gate's mean up one after the other, which makes
    # 2.4e-4 of the spread in a Real-to-Binary net.
    _, [compared] = comparison.compare(model, content, [inputs], [probes.run_on_runtime])
    keras.backend.clear_session()
    largest = max(layer.difference / layer.spread for layer in compared.layers)
    print(f"{name}: {compared.flips} of {compared.signs:,} signs flip, {largest:.1e} of the spread")
    assert compared.all_signs_told
    assert [layer.signs > 0 for layer in compared.layers] == [True] * count + [False]
    assert compared.first_wrong is None
    assert compared.close.all()


@pytest.mark.parametrize("suffix", ["", "_notop"])
@pytest.mark.parametrize("name", MODELS)
def test_the_outputs_agree(name, suffix):
    model = zoo.create_model(
        MODELS[name][0], weights=FOLDER / f"{name}{suffix}.h5", include_top=not suffix
    )
    recording = np.load(FOLDER / f"{name}{suffix}.npz")
    expected = recording["keras_outputs"]
    outputs = model.predict(recording["inputs"], batch_size=1, verbose=0)
    keras.backend.clear_session()
    assert outputs.shape == expected.shape
    assert expected.std() > 0
    differences = np.abs(outputs - expected).reshape(len(expected), -1).max(axis=1)
    agree = differences <= 1e-5 * np.abs(expected).max()
    print(f"{name}{suffix}: {agree.sum()} of {len(agree)} images agree")
    assert agree.sum() >= (2 if name + suffix == "RealToBinaryNet" else 5)


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_layers_are_the_same(name, tmp_path):
    """Filters, factors, biases and thresholds: LCE's, of larq-zoo's model, and ours, of ours."""
    path = tmp_path / "ours.tflite"
    ours, count = MODELS[name]
    # They do not depend on the size of the images.
    model = zoo.create_model(ours, weights=FOLDER / f"{name}.h5", input_shape=(64, 64, 3))
    export.convert(model, path)
    keras.backend.clear_session()
    layers, expected = bconvs(path.read_bytes()), bconvs((FOLDER / f"{name}.tflite").read_bytes())
    assert len(layers) == len(expected) == count
    for a, b in zip(layers, expected):
        assert_same_layer(a, b)
