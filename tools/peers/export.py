"""Exports larq-zoo's models with random weights and records what LCE computes with them.

Usage: export.py FOLDER

Runs in the environment of requirements.txt. For each model NAME, at 224x224 with 1,000 classes:

- NAME.tflite: what LCE's converter made of it.
- NAME.npz: `inputs`, float32 (images, 224, 224, 3); `outputs`, float32 (images, 1000), what
  LCE's interpreter computes with its reference kernel and XNNPACK; `keras_outputs`, what Keras
  computes.

For the models in WEIGHTS also the weights as `save_weights` of larq-zoo's model writes them, which
is how larq-zoo publishes them:

- NAME.h5: the model with its classifier; `keras_outputs` above are its probabilities.
- NAME_notop.h5: the same weights without the classifier.
- NAME_notop.npz: the same `inputs`; `keras_outputs`, float32 (images, 7, 7, channels).

A model whose NAME.npz exists is not made again; that file is written last.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Larq does not work with another.

import sys
from collections.abc import Callable
from pathlib import Path

import larq_compute_engine as lce
import larq_zoo
import numpy as np
import tf_keras as keras
from larq_compute_engine.tflite.python.interpreter import Interpreter

MODELS = {
    model.__name__: model
    for model in (
        # DoReFaNet is not there: its activations have two bits, and LCE's converter fails on it.
        larq_zoo.literature.BiRealNet,
        larq_zoo.literature.BinaryResNetE18,
        larq_zoo.literature.RealToBinaryNet,
        larq_zoo.literature.XNORNet,
        larq_zoo.literature.BinaryAlexNet,
        larq_zoo.literature.BinaryDenseNet28,
        larq_zoo.literature.BinaryDenseNet37,
        larq_zoo.literature.BinaryDenseNet37Dilated,
        larq_zoo.literature.BinaryDenseNet45,
        larq_zoo.literature.MeliusNet22,
        larq_zoo.sota.QuickNetSmall,
        larq_zoo.sota.QuickNet,
        larq_zoo.sota.QuickNetLarge,
    )
}
# Those that are in our zoo, too.
WEIGHTS = {
    "BiRealNet",
    "RealToBinaryNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet45",
    "MeliusNet22",
    "QuickNetSmall",
    "QuickNet",
    "QuickNetLarge",
}
IMAGES = 8


def images(count: int) -> np.ndarray:
    """Images of one colour, patches of others and noise, in [-1, 1].

    Noise alone would make all images alike to a network that ends in average pooling.
    """
    random = np.random.default_rng(count)
    colour = random.uniform(-1, 1, (count, 1, 1, 3))
    patches = random.uniform(-1, 1, (count, 28, 28, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noise = random.uniform(-1, 1, (count, 224, 224, 3))
    return (0.5 * colour + 0.3 * patches + 0.2 * noise).astype(np.float32)


def make_model(build: Callable[..., keras.Model]) -> keras.Model:
    """A model whose activations are spread as in a trained one, with signs of both kinds."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = build(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.scale:
                sizes = random.uniform(0.5, 1.5, layer.gamma.shape)
                layer.gamma.assign(sizes * random.choice([-1, 1], layer.gamma.shape))
            if layer.center:
                layer.beta.assign(random.normal(0, 0.3, layer.beta.shape))
            layer.momentum = 0.0  # They are the statistics of the one batch below.
    model(images(16), training=True)
    classifier = model.layers[-2]
    if type(classifier) is keras.layers.Dense:
        # A network without BatchNorm after its sums would give probabilities of 0 and 1 only.
        logits = keras.Model(model.input, classifier.output).predict(images(16), verbose=0)
        classifier.kernel.assign(classifier.kernel / logits.std())
    return model


def record(model: keras.Model, flatbuffer: bytes, path: Path) -> None:
    inputs = images(IMAGES)
    np.savez(
        path,
        inputs=inputs,
        outputs=Interpreter(flatbuffer, use_reference_bconv=True, use_xnnpack=True).predict(inputs),
        keras_outputs=model.predict(inputs, batch_size=1, verbose=0),
    )


def record_weights(name: str, model: keras.Model, folder: Path) -> None:
    """What a checkpoint of larq-zoo is and what it computes, with and without the classifier."""
    notop = MODELS[name](weights=None, include_top=False)
    notop.set_weights(model.get_weights()[: len(notop.weights)])
    model.save_weights(folder / f"{name}.h5")
    notop.save_weights(folder / f"{name}_notop.h5")
    inputs = images(IMAGES)
    outputs = notop.predict(inputs, batch_size=1, verbose=0)
    np.savez(folder / f"{name}_notop.npz", inputs=inputs, keras_outputs=outputs)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in MODELS.items():
        recording = folder / f"{name}.npz"
        if recording.exists():
            continue
        print(f"larq-zoo's {name} ...", flush=True)
        model = make_model(build)
        if name in WEIGHTS:
            record_weights(name, model, folder)
        flatbuffer = lce.convert_keras_model(model)
        (folder / f"{name}.tflite").write_bytes(flatbuffer)
        partial = folder / f"partial_{name}.npz"
        record(model, flatbuffer, partial)
        partial.rename(recording)
        keras.backend.clear_session()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
