"""The file alone is enough to compute the network: by an interpreter of NumPy and JSON."""

import json
import zipfile

import numpy as np
import pytest
from export_helpers import SIZE, Uneven, birealnet, build, larq_conv

from bireal_keras import blocks, export, zoo
from bireal_keras._keras import keras


def windows(x, size, op, border):
    """x (h, w, c) as (out_h, out_w, kernel_h, kernel_w, c)."""
    x = np.pad(x, [*op["padding"], (0, 0)], constant_values=border)
    (sy, sx), (dy, dx) = op["strides"], op.get("dilations", (1, 1))
    out_h, out_w, _ = op["shape"]
    rows = sy * np.arange(out_h)[:, None] + dy * np.arange(size[0])
    columns = sx * np.arange(out_w)[:, None] + dx * np.arange(size[1])
    return x[rows[:, None, :, None], columns[None, :, None, :]]


def grouped(x, kernel, op):
    """x of `windows` times kernel (h, w, in per group, out)."""
    parts = zip(np.split(x, op["groups"], -1), np.split(kernel, op["groups"], -1))
    return np.concatenate([np.einsum("yxabi,abio->yxo", *part) for part in parts], -1)


def bits(words, count):
    """Bit i of word j is channel 32 j + i."""
    return (words[..., np.arange(count) // 32] >> (np.arange(count, dtype=np.uint32) % 32)) & 1


def binary_conv(op, x, filters, multiplier, bias, threshold=None):
    signs = np.where(x < 0, -1, 1)
    count = signs.shape[-1] // op["groups"]
    kernel = 1 - 2 * bits(filters, count).astype(int).transpose(1, 2, 3, 0)
    sums = grouped(windows(signs, kernel.shape[:2], op, op["pad_value"]), kernel, op)
    result = sums * multiplier + bias
    if threshold is not None:  # Then only the sign is of use.
        result = np.where(np.where(multiplier < 0, -1, 1) * sums < threshold, -1, 1)
    return result


OPS = {
    "binary_conv": binary_conv,
    "conv": lambda op, x, kernel, bias: (
        grouped(windows(x, kernel.shape[:2], op, 0), kernel, op) + bias
    ),
    "dense": lambda op, x, kernel, bias: x @ kernel + bias,
    "affine": lambda op, x, multiplier, bias: x * multiplier + bias,
    "prelu": lambda op, x, alpha: np.where(x < 0, alpha * x, x),
    "relu": lambda op, x: np.maximum(x, 0),
    "leaky_clip": lambda op, x: 0.1 * x + 0.9 * np.clip(x, -1, 1),
    "softmax": lambda op, x: np.exp(x) / np.exp(x).sum(),
    "identity": lambda op, x: x,
    "flatten": lambda op, x: x.ravel(),
    "add": lambda op, *xs: sum(xs),
    "max_pool": lambda op, x: windows(x, op["window"], op, -np.inf).max(axis=(2, 3)),
    "average_pool": lambda op, x: np.nanmean(windows(x, op["window"], op, np.nan), axis=(2, 3)),
    "global_average_pool": lambda op, x: x.mean(axis=(0, 1)),
    "zero_pad": lambda op, x: np.pad(x, [*op["amounts"], (0, 0)]),
    "crop": lambda op, x: x[tuple(slice(a, -b or None) for a, b in op["amounts"])],
}


def run(path, image):
    file = np.load(path, allow_pickle=False)
    graph = json.loads(file["graph.json"])
    values = {}
    for op in graph["operations"]:
        if op["op"] == "input":
            values[op["name"]] = image
        else:
            inputs = [values[name] for name in op["inputs"]]
            arrays = {name: file[f"{op['name']}.{name}"] for name in op["arrays"]}
            values[op["name"]] = OPS[op["op"]](op, *inputs, **arrays)
        assert list(values[op["name"]].shape) == op["shape"], op
    return values[graph["output"]]


def every_layer(x):
    """One of each that the format knows, with thresholds, groups, dilation and both paddings."""
    x = keras.layers.Conv2D(8, 5, strides=2, padding="same", activation="relu", name="stem")(x)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)  # After a ReLU it is not folded.
    x = blocks.ChannelShift(name="shift")(x)
    x = larq_conv(64, padding="valid", kernel_quantizer="magnitude_aware_sign", name="first")(x)
    x = keras.layers.BatchNormalization(name="first_bn")(x)
    left = larq_conv(40, groups=2, pad_values=1.0, use_bias=True, name="left")(x)
    right = larq_conv(40, dilation_rate=2, kernel_size=(3, 2), name="right")(x)
    right = keras.layers.BatchNormalization(name="right_bn")(right)
    x = keras.layers.Add(name="sum")([left, right])
    x = keras.layers.PReLU(shared_axes=[1, 2], alpha_initializer="ones", name="prelu")(x)
    x = blocks.RealActivation("leaky_clip", name="clip")(x)
    x = keras.layers.ZeroPadding2D(((0, 1), (1, 2)), name="pad")(x)
    x = keras.layers.Cropping2D(((1, 0), (0, 1)), name="crop")(x)
    x = keras.layers.MaxPooling2D(2, strides=1, padding="same", name="pool")(x)
    x = keras.layers.AveragePooling2D(3, strides=2, padding="same", name="average")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    x = keras.layers.Dense(6, use_bias=False, name="mix")(keras.layers.Flatten(name="flat")(x))
    x = keras.layers.BatchNormalization(name="mix_bn")(x)
    return keras.layers.Activation("softmax", name="softmax")(x)


def operations(path):
    content = json.loads(zipfile.ZipFile(path).read("graph.json"))["operations"]
    return {op["name"]: op for op in content}


@pytest.mark.parametrize("layers", [birealnet, every_layer], ids=lambda layers: layers.__name__)
def test_numpy_computes_what_keras_computes(layers, tmp_path):
    model = build(layers)
    path = tmp_path / "model.npz"
    export.to_npz(model, path)
    images = np.random.default_rng(0).normal(size=(8, SIZE, SIZE, 3)).astype(np.float32)
    expected = model(images, training=False).numpy()
    assert expected.std(axis=0).max() > 0.01
    for image, probabilities in zip(images, expected):
        np.testing.assert_allclose(run(path, image), probabilities, rtol=1e-4, atol=1e-5)


def test_thresholds_stand_where_only_a_sign_follows(tmp_path):
    export.to_npz(build(every_layer), tmp_path / "model.npz")
    arrays = {name: op["arrays"] for name, op in operations(tmp_path / "model.npz").items()}
    assert arrays["first"] == ["bias", "filters", "multiplier", "threshold"]
    assert arrays["left"] == arrays["right"] == ["bias", "filters", "multiplier"]
    # Folded away.
    assert "stem_bn" in arrays
    assert not {"first_bn", "right_bn", "mix_bn"} & set(arrays)


def test_shortcuts_leave_no_thresholds(tmp_path):
    export.to_npz(build(birealnet), tmp_path / "model.npz")
    binary = [o for o in operations(tmp_path / "model.npz").values() if o["op"] == "binary_conv"]
    assert len(binary) == 3
    assert all("threshold" not in op["arrays"] for op in binary)
    assert binary[1]["strides"] == [2, 2]
    assert binary[1]["padding"] == [[0, 1], [0, 1]]
    assert binary[1]["depth"] == 9 * 16


@pytest.mark.parametrize("multiplier", [0.5, -0.5, 0.0])
@pytest.mark.parametrize("bias", [-3.0, -1.25, -0.0, 0.0, 0.75, 1e9])
def test_threshold_is_the_sign(multiplier, bias):
    from bireal_keras.export.npz import _threshold

    [threshold] = _threshold(np.float32([multiplier]), np.float32([bias]))
    sums = np.arange(-20, 21)
    s = -1 if multiplier < 0 else 1
    np.testing.assert_array_equal(s * sums < threshold, multiplier * sums + bias < 0)


def test_same_model_gives_the_same_bytes(tmp_path):
    model = build(birealnet)
    for name in ("a", "b"):
        export.to_npz(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_model_of_the_zoo(tmp_path):
    """Of each block only signs read the first convolution, through a BatchNormalization.

    Where it strides, PyTorch's padding puts a cropping in between, as in 3 of the 8 blocks.
    """
    model = zoo.XNORResNet18(input_shape=(32, 32, 3), num_classes=10, width=4, padding="torch")
    export.to_npz(model, tmp_path / "model.npz")
    found = operations(tmp_path / "model.npz")
    assert {op["op"] for op in found.values()} <= {*OPS, "input"}
    with_threshold = [name for name, op in found.items() if "threshold" in op["arrays"]]
    assert len(with_threshold) == 5
    assert all(name.endswith("_conv1") for name in with_threshold)


def twice(x):
    layer = keras.layers.Conv2D(3, 1, name="twice")
    return layer(layer(x))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (twice, "once. Received: twice, called 2 times"),
        (lambda x: keras.layers.DepthwiseConv2D(3, name="deep")(x), "deep, a DepthwiseConv2D"),
        (lambda x: keras.layers.Conv2D(3, 1, activation="elu", name="e")(x), "e with elu"),
        (lambda x: larq_conv(8, input_quantizer="ste_heaviside", name="half")(x), "half"),
        (lambda x: larq_conv(8, kernel_quantizer=None, name="real")(x), "real"),
        (lambda x: larq_conv(8, kernel_quantizer=Uneven(0.01), name="uneven")(x), "uneven"),
    ],
)
def test_what_the_format_cannot_express(layers, message, tmp_path):
    with pytest.raises(ValueError, match="`model` must .*" + message):
        export.to_npz(build(layers), tmp_path / "model.npz")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "model.keras", "built model"),
        (lambda: keras.Sequential([keras.layers.ReLU()]), "built model"),
        (lambda: build(lambda x: x, (None, None, 3)), "fixed size"),
    ],
)
def test_unfit_models(model, message, tmp_path):
    with pytest.raises(ValueError, match="`model` must .*" + message):
        export.to_npz(model(), tmp_path / "model.npz")
