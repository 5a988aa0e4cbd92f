"""Every model of the zoo, full width, at three sizes: from Keras to our runtime.

`make test-zoo`. It takes 20 minutes on two cores: tests/zoo/ has the same at small width.
"""

import model_cards
import numpy as np
import pytest
from exact_weights import exact_images, set_exact_weights

from bireal_keras import export, runtime, zoo
from bireal_keras._keras import keras, lq

IMAGES = 8


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("name", zoo.list_models())
def test_exports_and_agrees_with_keras(name, size, tmp_path):
    model = zoo.create_model(name, input_shape=(size, size, 3))
    set_exact_weights(model)
    images = exact_images(size, IMAGES)

    report = export.convert(model, tmp_path / "model.tflite", samples=images)
    binary = sum(isinstance(layer, lq.layers.QuantConv2D) for layer in model.layers)
    assert report.binary_convolutions == report.intended_binary_convolutions == binary
    assert report.close_samples == IMAGES

    expected = np.log(model.predict(images, batch_size=4, verbose=0))
    interpreter = runtime.Interpreter(tmp_path / "model.tflite", num_threads=2)
    output = np.log(interpreter.predict(images))
    spread = expected.std(axis=0).max()
    difference = np.abs(output - expected).max()
    print(f"{name} {size}x{size}: log-probabilities spread {spread:.2g}, differ {difference:.2g}")
    assert spread > 0.01
    assert difference < 1e-3 * spread
    keras.backend.clear_session()


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_card_is_up_to_date(name):
    card, _ = model_cards.describe(name)
    assert (model_cards.FOLDER / f"{name}.md").read_text(encoding="utf-8") == card
