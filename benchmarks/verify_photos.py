"""Do exported files compute what their Keras models compute, on photos? docs/verify.md's table.

    python benchmarks/verify_photos.py --data_dir=DIR [--num_images=1000] [NAME ...]

Exports each model of the zoo whose weights are published at 224x224, and compares the file with
the Keras model as bireal-verify does, on photos of ImageNet: the TFDS dataset `imagenet_samples`,
one photo of each of the 1,000 classes. With names, these models and no others; with fewer images,
photos spread evenly over the classes.

Weights that cannot be downloaded are random, and so are those of ReActNet-A, which only
`zoo.from_torch` reads. BatchNorm's scales then have both signs and its statistics are those of
photos, so that signs of both kinds are before every convolution, and the classifier says which of
the photos is the nearest one. Such a network knows every photo that it is shown, and nothing else.

Each model's figures are kept in --output_dir, and it is not compared again with as many images or
fewer. Without names, the figures of all go to docs/models/verified.json as well.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import flags, logging
from report import machine, print_table

from bireal_keras import _files, batch_norm, export, runtime, zoo
from bireal_keras._keras import keras, tf
from bireal_keras.commands import _cli
from bireal_keras.export import comparison, probes, verification
from bireal_keras.export.results import top1_agreement
from bireal_keras.training import data

_DATA_DIR = _cli.define_path("data_dir", None, "Folder of TensorFlow datasets.", required=True)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 1000, "How many photos.", lower_bound=64, upper_bound=1000
)
_OUTPUT_DIR = _cli.define_path(
    "output_dir", "_build/verify_photos", "Folder for the files, and for what was found."
)

_DATASET = "imagenet_samples"
# ReActNet-A's authors publish its weights for PyTorch.
_NAMES = [*zoo.list_models(pretrained=True), "ReActNetA"]
_SIZE = 224
_CENTER_CROP = 224 / 256
_CLASSES = 1000
# Photos that BatchNorm's statistics are taken from.
_STATISTICS_BATCHES, _BATCH = 4, 16
# Standard deviation of a random network's logits: softmax then rounds no probability to 0.
_LOGITS_SPREAD = 4.0
_RIGHT = "right, up to rounding"
_JSON = Path(__file__).parents[1] / "docs/models/verified.json"


def main(names: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    folder = Path(_OUTPUT_DIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    photos, labels = _photos(_NUM_IMAGES.value)
    results = []
    for name in names or _NAMES:
        path = folder / f"{name}.json"
        result = json.loads(path.read_text()) if path.is_file() else {}
        if result.get("images", 0) < len(photos):
            keras.backend.clear_session()
            result = _verify(name, photos, labels, path.with_suffix(".tflite"))
            _files.write(path, json.dumps(result, indent=2) + "\n")
        results.append(result)
        print(f"{name}: {result['verdict']}", flush=True)
    print(f"\n{machine()}\n")
    _print(results)
    if not names:
        _files.write(_JSON, json.dumps(results, indent=2) + "\n")
        print(_JSON)


def _photos(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in [-1, 1], float32 (count, 224, 224, 3), and their classes, (count,)."""
    examples = tfds.load(
        _DATASET,
        split="validation",
        data_dir=_DATA_DIR.value,
        as_supervised=True,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    taken = examples.shard(_CLASSES // count, 0).take(count)
    batches = data.evaluation_batches(
        data.Split(taken, count, tf.identity, count),
        image_size=_SIZE,
        num_classes=_CLASSES,
        batch_size=_BATCH,
        center_crop=_CENTER_CROP,
    )
    images, one_hot = zip(*batches.as_numpy_iterator())
    return np.concatenate(images), np.concatenate(one_hot).argmax(axis=1)


def _verify(name: str, photos: np.ndarray, labels: np.ndarray, path: Path) -> dict[str, Any]:
    """Exports a model and compares; what is found, as JSON has it."""
    start = time.process_time()
    model, weights = _model(name, photos, labels)
    export.convert(model, path, samples=photos[:8])
    content = path.read_bytes()
    expected, [compared] = comparison.compare(model, content, [photos], [probes.run_on_runtime])
    reason = verification.reason_to_refuse(expected, compared)
    # As it is used: with nothing inside it to look at, the delegate fuses.
    if not np.array_equal(runtime.Interpreter(content).predict(photos), compared.outputs[0]):
        reason = reason or "Our runtime gives something else when its layers are looked at."
    layers = [layer for layer in compared.layers if layer.signs]
    return {
        "model": name,
        "weights": weights,
        "images": len(photos),
        "layers": len(layers),
        "signs": compared.signs,
        "flips": compared.flips,
        "free_flips": compared.free_flips,
        "largest_share_of_spread": max(layer.difference / layer.spread for layer in layers),
        "top1": {
            "Keras": float((expected[0].argmax(axis=1) == labels).mean()),
            "ours": float((compared.outputs[0].argmax(axis=1) == labels).mean()),
        },
        "same_class": top1_agreement(expected, compared.outputs),
        "verdict": _RIGHT if reason is None else reason,
        "cpu_seconds": round(time.process_time() - start),
        "machine": machine(),
    }


def _model(name: str, photos: np.ndarray, labels: np.ndarray) -> tuple[keras.Model, str]:
    """A model of images in [-1, 1], and what its weights are."""
    if name in zoo.list_models(pretrained=True):
        standardized = zoo.imagenet.standardize(keras.Input((_SIZE, _SIZE, 3)))
        try:
            return zoo.create_model(name, input_tensor=standardized, weights="imagenet"), "imagenet"
        except OSError as error:
            print(f"{name}: random weights. {error}", flush=True)
    keras.utils.set_random_seed(0)
    model = zoo.create_model(name)
    _randomize_batch_norm(model)
    chosen = photos[:: len(photos) // (_STATISTICS_BATCHES * _BATCH)]
    batch_norm.reestimate(
        model, [chosen[index * _BATCH :][:_BATCH] for index in range(_STATISTICS_BATCHES)]
    )
    _tell_apart(model, photos, labels)
    return model, "random"


def _randomize_batch_norm(model: keras.Model) -> None:
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.scale:
                sizes = random.uniform(0.5, 1.5, layer.gamma.shape)
                layer.gamma.assign(sizes * random.choice([-1, 1], layer.gamma.shape))
            if layer.center:
                layer.beta.assign(random.normal(0, 0.3, layer.beta.shape))


def _tell_apart(model: keras.Model, photos: np.ndarray, labels: np.ndarray) -> None:
    """Makes the logit of a photo's class |f|^2 / 2 - |f - g|^2 / 2, but for one factor.

    f are the features of the image and g those of the photo, both less the mean of all photos.
    Classes without a photo get the smallest logit that there is.
    """
    classifier = model.get_layer("head_fc")
    features = keras.Model(model.input, classifier.input).predict(
        photos, batch_size=_BATCH, verbose=0
    )
    mean = features.mean(axis=0)
    own = features - mean
    biases = -np.square(own).sum(axis=1) / 2
    logits = own @ own.T + biases
    scale = _LOGITS_SPREAD / logits.std()
    kernel = np.zeros(classifier.kernel.shape, np.float32)
    kernel[:, labels] = scale * own.T
    bias = np.full(classifier.bias.shape, scale * logits.min(), np.float32)
    bias[labels] = scale * (biases - own @ mean)
    classifier.set_weights([kernel, bias])


def _print(results: list[dict[str, Any]]) -> None:
    print_table(
        ["model", "weights", "photos", "1-bit layers", "signs", "flips, told", "flips, alone"]
        + ["differs by, of spread", "same class", "file"],
        [
            [
                one["model"],
                one["weights"],
                f"{one['images']:,}",
                str(one["layers"]),
                f"{one['signs']:,}",
                f"{one['flips']:,}",
                f"{one['free_flips']:,}",
                f"{one['largest_share_of_spread']:.1e}",
                f"{one['same_class']:.1%}",
                _RIGHT if one["verdict"] == _RIGHT else "see below",
            ]
            for one in results
        ],
    )
    for one in results:
        if one["verdict"] != _RIGHT:
            print(f"{one['model']}: {one['verdict']}\n")


if __name__ == "__main__":
    _cli.run("verify_photos", main, module="__main__", doc=__doc__)
