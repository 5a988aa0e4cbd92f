"""The zoo's Bi-Real Nets: structure, parameter counts, arguments, weights."""

import functools

import h5py
import numpy as np
import pytest
from model_structure import chain, producers

from bireal_keras import blocks, zoo
from bireal_keras._keras import keras, lq, tf
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign
from bireal_keras.zoo import _model

BLOCKS = {"BiRealNet18": (4, 4, 4, 4), "BiRealNet34": (6, 8, 12, 6)}
BINARY = sorted(BLOCKS)
TWINS = {name: f"{name}Float" for name in BINARY}

# Slim and small models are quick to build and have the same skeleton.
SLIM = {"input_shape": (32, 32, 3), "num_classes": 10, "width": 4}
SMALL = {**SLIM, "input_shape": (8, 8, 3), "stem": "cifar"}


@functools.cache
def full_model(name):
    return zoo.create_model(name)


def slim(name="BiRealNet18", **kwargs):
    return zoo.create_model(name, **{**SLIM, **kwargs})


@functools.cache
def shared(name="BiRealNet18"):
    """One slim model for all tests that leave its weights alone, or set them first."""
    return slim(name)


def randomize(model, seed=0):
    """Random weights and statistics: fresh ones make all outputs nearly alike."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape)
            if "gamma" in w.name or "variance" in w.name
            else rng.uniform(-1, 1, w.shape) / np.sqrt(np.prod(w.shape[:-1]))
            for w in model.weights
        ]
    )
    return model


def images(size, batch=2):
    return np.random.default_rng(1).normal(size=(batch, size, size, 3)).astype(np.float32)


class TestParameters:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "count", "trainable"),
        [("BiRealNet18", 11_699_112, 11_689_512), ("BiRealNet34", 21_814_696, 21_797_672)],
    )
    def test_count(self, name, count, trainable):
        model = full_model(name)
        assert model.count_params() == count
        assert sum(np.prod(w.shape) for w in model.trainable_weights) == trainable

    @pytest.mark.slow
    @pytest.mark.parametrize("name", BINARY)
    def test_one_bit_weights(self, name):
        """Every 3x3 kernel of the four stages, and nothing else, has one bit a weight."""
        expected, channels = 0, 64
        for stage, count in enumerate(BLOCKS[name]):
            filters = 64 * 2**stage
            expected += 9 * channels * filters + (count - 1) * 9 * filters * filters
            channels = filters
        kernels = [
            layer.kernel
            for layer in full_model(name).layers
            if isinstance(layer, lq.layers.QuantConv2D)
        ]
        assert len(kernels) == sum(BLOCKS[name])
        assert all(kernel.precision == 1 for kernel in kernels)
        assert sum(np.prod(kernel.shape) for kernel in kernels) == expected
        if name == "BiRealNet18":
            assert expected == 10_985_472

    @pytest.mark.slow
    @pytest.mark.parametrize("name", BINARY)
    def test_twin_has_as_many(self, name):
        assert shared(TWINS[name]).count_params() == shared(name).count_params()


class TestStructure:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "stem"),
        [("BiRealNet18", "imagenet"), ("BiRealNet18", "cifar"), ("BiRealNet34", "imagenet")],
    )
    def test_block_is_sign_conv_bn_add(self, name, stem):
        model = shared(name) if stem == "imagenet" else slim(name, stem=stem)
        previous = model.get_layer("stem_pool" if stem == "imagenet" else "stem_bn")
        for stage, count in enumerate(BLOCKS[name]):
            for index in range(count):
                prefix = f"stage{stage + 1}_block{index + 1}"
                add = model.get_layer(f"{prefix}_add")
                assert type(add) is keras.layers.Add
                bn, shortcut = producers(add)
                assert type(bn) is keras.layers.BatchNormalization
                [conv] = producers(bn)
                assert type(conv) is lq.layers.QuantConv2D
                assert type(conv.input_quantizer) is ApproxSign
                assert type(conv.kernel_quantizer) is MagnitudeAwareSign
                assert not conv.use_bias
                assert conv.filters == 4 * 2**stage
                assert conv.kernel_size == (3, 3)
                downsamples = stage > 0 and index == 0
                assert conv.strides == ((2, 2) if downsamples else (1, 1))
                # Conv and shortcut start from the same real values: the last sum.
                assert producers(conv) == [previous]
                if downsamples:
                    assert type(shortcut) is keras.layers.BatchNormalization
                    [shortcut] = producers(shortcut)
                    assert type(shortcut) is keras.layers.Conv2D
                    assert shortcut.kernel_size == (1, 1)
                    assert not shortcut.use_bias
                    [shortcut] = producers(shortcut)
                    assert type(shortcut) is keras.layers.AveragePooling2D
                    [shortcut] = producers(shortcut)
                assert shortcut is previous
                previous = add
        pool, dense, softmax = model.layers[-3:]
        assert producers(pool) == [previous]
        assert type(pool) is keras.layers.GlobalAveragePooling2D
        assert type(dense) is keras.layers.Dense
        assert dense.use_bias
        assert softmax.activation is keras.activations.softmax

    @pytest.mark.parametrize("name", BINARY)
    def test_no_activation_but_sign_and_softmax(self, name):
        for layer in shared(name).layers[:-1]:
            assert not isinstance(layer, (keras.layers.ReLU, keras.layers.Activation))
            assert getattr(layer, "activation", None) in (None, keras.activations.linear)

    @pytest.mark.slow
    def test_stems_differ_in_size_only_there(self):
        imagenet, cifar = shared().get_layer("stem_conv"), slim(stem="cifar").get_layer("stem_conv")
        assert type(imagenet) is type(cifar) is keras.layers.Conv2D
        assert (imagenet.kernel_size, imagenet.strides) == ((7, 7), (2, 2))
        assert (cifar.kernel_size, cifar.strides) == ((3, 3), (1, 1))

    def test_pad_values_reach_every_binary_convolution(self):
        for model, pad_values in ((shared(), 0.0), (slim(pad_values=1.0), 1.0)):
            convs = [layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]
            assert {layer.pad_values for layer in convs} == {pad_values}

    @pytest.mark.parametrize("name", BINARY)
    def test_layer_names_are_stable(self, name):
        """Weight files and .tflite tensor names depend on them."""
        names = [layer.name for layer in shared(name).layers]
        assert names[1:4] == ["stem_conv", "stem_bn", "stem_pool"]
        assert names[4:7] == [f"stage1_block1_{part}" for part in ("conv", "bn", "add")]
        assert names[-3:] == ["head_pool", "head_fc", "head_softmax"]

    @pytest.mark.parametrize("name", BINARY)
    def test_twin_shares_the_skeleton(self, name):
        binary, twin = randomize(shared(name)), shared(TWINS[name])
        assert [w.name for w in twin.weights] == [w.name for w in binary.weights]
        assert [w.shape for w in twin.weights] == [w.shape for w in binary.weights]
        assert not any(isinstance(layer, lq.layers.QuantConv2D) for layer in twin.layers)
        without_activations = [
            layer.name for layer in twin.layers if not isinstance(layer, blocks.RealActivation)
        ]
        assert without_activations[1:] == [layer.name for layer in binary.layers][1:]
        twin.set_weights(binary.get_weights())
        for a, b in zip(twin.get_weights(), binary.get_weights()):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
class TestBottleneck:
    """50 and 152: the two streams from block to block."""

    @pytest.mark.parametrize("twin", [False, True])
    def test_structure(self, twin):
        model = shared("BiRealNet50Float" if twin else "BiRealNet50")
        one_bit = ["RealActivation", "Conv2D"] if twin else ["QuantConv2D"]
        narrow, wide = None, model.get_layer("stem_pool")
        for stage, count in enumerate((3, 4, 6, 3)):
            for index in range(count):
                prefix = f"stage{stage + 1}_block{index + 1}"
                first, halves = index == 0, stage > 0 and index == 0
                if narrow is None:
                    end = model.get_layer(f"{prefix}_bn1")
                    assert chain(end, wide) == ["RealActivation", "Conv2D", "BatchNormalization"]
                    assert model.get_layer(f"{prefix}_conv1_leaky_clip").activation == "leaky_clip"
                else:
                    end = model.get_layer(f"{prefix}_add1")
                    branch, straight = producers(end)
                    assert chain(branch, wide) == [*one_bit, "BatchNormalization"]
                    assert chain(straight, narrow) == (["Conv2D"] if first else [])
                narrow, previous = model.get_layer(f"{prefix}_add2"), end
                branch, straight = producers(narrow)
                assert chain(branch, previous) == [*one_bit, "BatchNormalization"]
                assert chain(straight, previous) == (["AveragePooling2D"] if halves else [])
                wide, previous = model.get_layer(f"{prefix}_add3"), wide
                branch, straight = producers(wide)
                assert chain(branch, narrow) == [*one_bit, "BatchNormalization"]
                pool = ["AveragePooling2D"] if halves else []
                assert chain(straight, previous) == (
                    [*pool, "Conv2D", "BatchNormalization"] if first else []
                )
                for number, (size, strides, filters) in enumerate(
                    [(1, 1, 1), (3, 2 if halves else 1, 1), (1, 1, 4)], start=1
                ):
                    conv = model.get_layer(f"{prefix}_conv{number}")
                    assert conv.kernel_size == (size, size)
                    assert conv.strides == (strides, strides)
                    assert conv.filters == 4 * 2**stage * filters
        assert producers(model.get_layer("head_pool")) == [wide]

    def test_twin_s_weights_fit(self):
        """The paper pre-trains the real-valued net and goes on from its weights."""
        binary, twin = shared("BiRealNet50"), shared("BiRealNet50Float")
        assert [w.name for w in twin.weights] == [w.name for w in binary.weights]
        twin.set_weights(binary.get_weights())


class TestOutput:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("stem", "size", "map_size"),
        [("imagenet", 64, 2), ("imagenet", 65, 3), ("cifar", 32, 4), ("cifar", 33, 5)],
    )
    def test_without_top_any_size(self, stem, size, map_size):
        model = zoo.BiRealNet18(include_top=False, width=4, stem=stem)
        assert model.input_shape == (None, None, None, 3)
        assert model.output_shape == (None, None, None, 32)
        assert model(images(size)).shape == (2, map_size, map_size, 32)

    def test_default_sizes(self):
        assert full_model("BiRealNet18").input_shape == (None, 224, 224, 3)
        assert full_model("BiRealNet18").output_shape == (None, 1000)
        assert zoo.BiRealNet18(stem="cifar", width=4).input_shape == (None, 32, 32, 3)

    def test_smallest_sizes_end_as_one_pixel(self):
        for stem, size in (("imagenet", 32), ("cifar", 8)):
            model = slim(stem=stem, input_shape=(size, size, 3))
            assert model.get_layer("stage4_block4_add").output_shape == (None, 1, 1, 32)

    def test_probabilities_stay_float32_under_mixed_precision(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            model = zoo.BiRealNet18(**SMALL)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        assert model.get_layer("stage1_block1_conv").compute_dtype == "float16"
        y = model(images(8))
        assert y.dtype == tf.float32
        assert np.isfinite(y).all()

    def test_trains(self):
        """Every weight gets a gradient, sign or no sign."""
        model = zoo.BiRealNet18(**SMALL)
        with tf.GradientTape() as tape:
            y = model(images(8, batch=16), training=True)
            loss = -tf.reduce_mean(tf.math.log(y[:, 0]))
        for weight, gradient in zip(
            model.trainable_weights, tape.gradient(loss, model.trainable_weights)
        ):
            assert np.isfinite(gradient).all(), weight.name
            assert np.abs(gradient).max() > 0, weight.name


class TestInputTensor:
    def test_builds_on_it(self):
        base = shared()
        inputs = keras.Input((32, 32, 3))
        model = zoo.BiRealNet18(**{**SLIM, "input_shape": None}, input_tensor=inputs)
        model.set_weights(randomize(base).get_weights())
        np.testing.assert_array_equal(model(images(32)), base(images(32)))

    def test_of_another_layer(self):
        inputs = keras.Input((32, 32, 3), name="photo")
        scaled = keras.layers.Rescaling(2.0)(inputs)
        model = zoo.BiRealNet18(**SLIM, input_tensor=scaled)
        assert model.input_names == ["photo"]
        base = shared()
        base.set_weights(randomize(model).get_weights())
        np.testing.assert_array_equal(model(images(32)), base(2 * images(32)))

    def test_not_a_keras_tensor(self):
        with pytest.raises(ValueError, match="`input_tensor` must be a Keras tensor"):
            slim(input_tensor=tf.zeros((1, 32, 32, 3)))

    def test_contradicts_input_shape(self):
        inputs = keras.Input((64, 64, 3))
        with pytest.raises(ValueError, match=r"`input_shape` must equal .*\(64, 64, 3\).*\(32, 32"):
            slim(input_tensor=inputs)

    def test_is_checked_like_a_shape(self):
        for shape, message in (((32, 32, 1), "channels last"), ((16, 16, 3), "at least")):
            with pytest.raises(ValueError, match=message):
                zoo.BiRealNet18(input_tensor=keras.Input(shape))


BAD_ARGUMENTS = [
    ({"input_shape": (32, 32, 1)}, r"\(height, width, 3\).*grey.*\(32, 32, 1\)"),
    ({"input_shape": (3, 32, 32)}, r"channels last.*\(3, 32, 32\)"),
    ({"input_shape": (32, 32)}, r"\(height, width, 3\).*\(32, 32\)"),
    ({"input_shape": 32}, r"\(height, width, 3\).*input_shape=32"),
    ({"input_shape": ("32", "32", 3)}, r"\(height, width, 3\).*\('32', '32', 3\)"),
    ({"input_shape": (31, 64, 3)}, r"at least \(32, 32, 3\).*pool to nothing.*\(31, 64, 3\)"),
    ({"input_shape": (64, 0, 3)}, r"at least \(32, 32, 3\).*\(64, 0, 3\)"),
    ({"input_shape": (8, 7, 3), "stem": "cifar"}, r"at least \(8, 8, 3\).*\(8, 7, 3\)"),
    ({"input_shape": (None, None, 3)}, r"height and a width.*include_top=True.*\(None, None, 3\)"),
    ({"stem": "mnist"}, r"`stem` must be one of \['cheap', 'cifar', 'imagenet'\].*stem='mnist'"),
    ({"stem": None}, r"`stem` must be one of .*stem=None"),
    ({"num_classes": 0}, r"`num_classes` must be a positive int.*num_classes=0"),
    ({"num_classes": 10.0}, r"`num_classes` must be a positive int.*num_classes=10\.0"),
    ({"num_classes": True}, r"`num_classes` must be a positive int.*num_classes=True"),
    ({"width": -4}, r"`width` must be a positive int.*width=-4"),
    ({"width": "64"}, r"`width` must be a positive int.*width='64'"),
    (
        {"weights": "none.h5"},
        r"`weights` must be None or the path.*'none\.h5', which is not a file",
    ),
    ({"weights": 5}, r"`weights` must be None or the path.*weights=5"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
@pytest.mark.parametrize("name", ["BiRealNet18", "BiRealNet34Float"])
def test_bad_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        slim(name, **arguments)


def test_bad_arguments_of_one_kind():
    with pytest.raises(ValueError, match=r"`pad_values` must be 0 or 1\. .*pad_values=0\.5"):
        slim(pad_values=0.5)
    with pytest.raises(ValueError, match=r"`activation` must be one of .*activation='tanh'"):
        slim("BiRealNet18Float", activation="tanh")


@pytest.mark.slow
class TestWeights:
    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
    @pytest.mark.parametrize("name", ["BiRealNet18", "BiRealNet18Float"])
    def test_save_weights_and_load(self, name, suffix, tmp_path):
        saved = randomize(shared(name))
        path = tmp_path / f"w{suffix}"
        saved.save_weights(path)
        loaded = slim(name, weights=path)
        for a, b in zip(loaded.get_weights(), saved.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(loaded(images(32)), saved(images(32)))

    @pytest.mark.parametrize("suffix", [".h5", ".keras"])
    def test_save_and_load(self, suffix, tmp_path):
        saved = randomize(shared())
        saved.save(tmp_path / f"model{suffix}")
        loaded = slim(weights=str(tmp_path / f"model{suffix}"))
        np.testing.assert_array_equal(loaded(images(32)), saved(images(32)))
        whole = keras.models.load_model(tmp_path / f"model{suffix}")
        np.testing.assert_array_equal(whole(images(32)), saved(images(32)))
        assert type(whole.get_layer("stage1_block1_conv").kernel_quantizer) is MagnitudeAwareSign

    @pytest.mark.parametrize(
        ("suffix", "other"),
        [
            (".h5", {"num_classes": 7}),
            (".weights.h5", {"num_classes": 7}),
            (".keras", {"num_classes": 7}),
            (".h5", {"width": 8}),
            (".h5", {"stem": "cifar"}),
            (".h5", {"include_top": False}),
        ],
        ids=lambda value: value if isinstance(value, str) else next(iter(value)),
    )
    def test_of_another_model_changes_nothing(self, suffix, other, tmp_path):
        path = tmp_path / f"other{suffix}"
        other_model = randomize(slim(**other), seed=2)
        (other_model.save if suffix == ".keras" else other_model.save_weights)(path)
        model = randomize(shared())
        before = model.get_weights()
        with pytest.raises(ValueError, match=r"BiRealNet18.*\(None, 10\)") as error:
            _model.load_weights(model, path)
        assert str(path) in str(error.value)
        if "num_classes" in other:
            assert "7" in str(error.value).replace(str(path), "")
        assert "\n" not in str(error.value)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
    def test_of_a_model_with_more_layers(self, suffix, tmp_path):
        """Keras finds all that a Bi-Real Net has in a ReActNet's file, and leaves out the rest."""
        path = tmp_path / f"react{suffix}"
        other = slim("ReActBiRealNet18")
        (other.save if suffix == ".keras" else other.save_weights)(path)
        with pytest.raises(ValueError, match="`weights` must fit BiRealNet18"):
            _model.load_weights(shared(), path)

    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras", ".tflite", ""])
    def test_corrupt_file(self, suffix, tmp_path):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"no weights in here" * 50)
        model = randomize(shared())
        before = model.get_weights()
        with pytest.raises(ValueError, match=r"`weights` must fit BiRealNet18.*Received"):
            _model.load_weights(model, path)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
    def test_damaged_file(self, suffix, tmp_path):
        path = tmp_path / f"w{suffix}"
        model = randomize(shared())
        model.save_weights(path)
        data = path.read_bytes()
        before = model.get_weights()
        damaged = [data[:kept] for kept in (0, 10, len(data) // 2, len(data) - 1)]
        # This is HDF5's signature of a symbol table node: h5py answers with a RuntimeError.
        damaged.append(b"XXXX".join(data.rsplit(b"SNOD", 1)))
        for contents in damaged:
            path.write_bytes(contents)
            with pytest.raises(ValueError, match="`weights` must fit BiRealNet18"):
                _model.load_weights(model, path)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
    def test_huge_array_is_not_read(self, suffix, tmp_path):
        """Chunks that were never written take no space in an HDF5 file."""
        path = tmp_path / f"w{suffix}"
        model = randomize(shared())
        model.save_weights(path)
        with h5py.File(path, "a") as file:
            names = []
            file.visititems(lambda name, _: names.append(name))
            name = next(name for name in names if isinstance(file[name], h5py.Dataset))
            del file[name]
            file.create_dataset(name, (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))
        assert path.stat().st_size < 2_000_000
        with pytest.raises(
            ValueError, match=r"must fit BiRealNet18.* arrays of 4,398,\d+,\d+,\d+ b"
        ):
            _model.load_weights(model, path)

    def test_hdf5_of_something_else(self, tmp_path):
        path = tmp_path / "other.h5"
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(3)
        with pytest.raises(ValueError, match="`weights` must fit BiRealNet18"):
            slim(weights=path)

    def test_twin_s_weights_start_the_binary_net(self, tmp_path):
        """The paper pre-trains the real-valued net and goes on from its weights."""
        twin = randomize(shared("BiRealNet18Float"))
        twin.save_weights(tmp_path / "twin.h5")
        binary = slim(weights=tmp_path / "twin.h5")
        for a, b in zip(binary.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
