"""Building stages' models and carrying weights between them."""

import ml_collections
import numpy as np
import pytest

from bireal_keras import _keras_model, _safe_load, zoo
from bireal_keras._keras import keras, lq
from bireal_keras.quantizers import ApproxSign
from bireal_keras.training.stages import create_model

INPUT = keras.layers.InputLayer
SMALL = {"input_shape": (8, 8, 3), "num_classes": 3, "width": 4, "stem": "cifar"}


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def randomize(model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(-1, 1, weight.shape) for weight in model.weights])


def test_weights_and_batch_norms_statistics_are_carried_exactly():
    source, target = zoo.BiRealNet18Float(**SMALL, activation="clip"), zoo.BiRealNet18(**SMALL)
    randomize(source)
    before = weights_of(source)
    _keras_model.carry_weights(source, target)
    after = weights_of(target)
    assert before.keys() == after.keys()
    for name, weights in before.items():
        assert len(weights) == (4 if name.endswith("_bn") else 2 if name == "head_fc" else 1)
        for expected, weight in zip(weights, after[name], strict=True):
            np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"width": 5}, r"'stem_conv' has weights of .*3, 5\)\], and the other's .*3, 4\)\]"),
        ({"stem": "imagenet"}, r"'stem_conv' has weights of .*\(7, 7, 3, 4\)"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_carried(other, message):
    source = zoo.BiRealNet18(**SMALL)
    target = zoo.BiRealNet18(**{**SMALL, "input_shape": (32, 32, 3), **other})
    before = weights_of(target)
    with pytest.raises(ValueError, match=message):
        _keras_model.carry_weights(source, target)
    for name, weights in weights_of(target).items():
        for expected, weight in zip(before[name], weights):
            np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_the_head_is_new_for_other_classes_and_stays_for_as_many():
    source = zoo.BiRealNet18(**SMALL)
    randomize(source)
    before = weights_of(source)
    same, more = (zoo.BiRealNet18(**{**SMALL, "num_classes": classes}) for classes in (3, 5))
    assert _keras_model.new_head(source, same) == set()
    assert _keras_model.new_head(source, more) == {"head_fc"}
    own = more.get_layer("head_fc").get_weights()
    _keras_model.carry_weights(source, more, but={"head_fc"})
    for name, weights in weights_of(more).items():
        for expected, weight in zip(own if name == "head_fc" else before[name], weights):
            np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_a_layer_that_the_other_lacks_is_named():
    target = zoo.ReActBiRealNet18(**SMALL)
    with pytest.raises(ValueError, match=r"'stage1_block1_conv_shift' .* does not exist"):
        _keras_model.carry_weights(zoo.BiRealNet18(**SMALL), target)


@pytest.fixture(scope="module")
def with_real_kernels():
    keras.utils.set_random_seed(0)
    model = zoo.ReActBiRealNet18(**SMALL)
    randomize(model)
    return model, _keras_model.with_real_kernels(model)


@pytest.mark.slow
def test_real_kernels_are_neither_quantized_nor_clipped(with_real_kernels):
    model, real = with_real_kernels
    quantized = [layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]
    assert len(quantized) == 16
    for layer in quantized:
        twin = real.get_layer(layer.name)
        assert layer.kernel_quantizer is not None
        assert twin.kernel_quantizer is None
        assert twin.kernel_constraint is None
        assert type(twin.input_quantizer) is type(layer.input_quantizer)
        assert twin.pad_values == layer.pad_values
    for name, weights in weights_of(model).items():
        for expected, weight in zip(weights, weights_of(real)[name], strict=True):
            np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_a_convolution_with_signs_and_a_real_kernel_is_the_formula(with_real_kernels):
    layer = with_real_kernels[1].get_layer("stage1_block2_conv")
    images = np.random.default_rng(1).normal(size=(2, 5, 5, 4)).astype(np.float32)
    signs = np.pad(np.where(images >= 0, 1.0, -1.0), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = layer.get_weights()[0]
    expected = sum(
        signs[:, row : row + 5, column : column + 5] @ kernel[row, column]
        for row in range(3)
        for column in range(3)
    )
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)


def test_float32_is_the_model_itself(with_real_kernels):
    assert _keras_model.with_precision(with_real_kernels[0], "float32") is with_real_kernels[0]


def test_bfloat16_is_for_the_arithmetic_and_not_for_weights_and_outputs(with_real_kernels):
    model, _ = with_real_kernels
    twin = _keras_model.with_precision(model, "mixed_bfloat16")
    *inner, softmax = [layer for layer in twin.layers if not isinstance(layer, INPUT)]
    for layer in inner:
        quantizers = [getattr(layer, f"{name}_quantizer", None) for name in ("input", "kernel")]
        assert {part.compute_dtype for part in (layer, *quantizers) if part} == {"bfloat16"}
    assert softmax.compute_dtype == "float32"
    for expected, weight in zip(model.weights, twin.weights, strict=True):
        assert weight.dtype == "float32"
        np.testing.assert_array_equal(weight, expected)

    images = np.random.default_rng(1).uniform(-1, 1, (2, 5, 5, 4)).astype(np.float32)
    exact, rounded = (m.get_layer("stage1_block2_conv")(images) for m in (model, twin))
    assert rounded.dtype == "bfloat16"
    # It sums up to 36 terms of +-s: s, the sum and their product are rounded to 8 bits.
    np.testing.assert_allclose(np.float32(rounded), exact, rtol=3 * 2**-8, atol=1e-6)


def stage(**model):
    return ml_collections.ConfigDict(
        {
            "model": {"name": "BiRealNet18", "num_classes": 3, "width": 4, "stem": "cifar"} | model,
            "dataset": {"image_size": 8},
            "seed": 0,
            "binary_weights": True,
        }
    )


def test_the_initial_weights_depend_on_the_seed_alone():
    first, second = (create_model(stage(), ("a", "b", "c")) for _ in range(2))
    for expected, weight in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(weight, expected)


def test_the_classes_must_be_the_datasets():
    with pytest.raises(ValueError, match=r"dataset's number of classes, 2 \(a, b\), .*Received: 3"):
        create_model(stage(), ("a", "b"))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_python_code_in_a_model_does_not_run(tmp_path):
    x = keras.Input((2,))
    path = tmp_path / "model.h5"
    keras.Model(x, keras.layers.Lambda(lambda v: v + 1)(x)).save(path)
    with pytest.raises(ValueError, match=r"model.h5 cannot be loaded: .*Lambda layer.*disallowed"):
        _safe_load.load_model(path)


@pytest.mark.parametrize(
    ("quantizer", "is_one_bit"),
    [
        (None, False),
        ("ste_sign", True),
        ("magnitude_aware_sign", True),
        (ApproxSign(), True),
        (lq.quantizers.SteTern(), False),
        (lq.quantizers.DoReFa(k_bit=1), True),
        (lq.quantizers.DoReFa(k_bit=2), False),
        # It states a precision and keeps real values.
        (lq.quantizers.NoOp(precision=1), False),
    ],
)
def test_one_bit_quantizers(quantizer, is_one_bit):
    layer = lq.layers.QuantConv2D(2, 1, input_quantizer=quantizer, kernel_quantizer=quantizer)
    assert _keras_model.is_one_bit(layer.input_quantizer) == is_one_bit
    assert _keras_model.has_one_bit_input(layer) == is_one_bit
    assert _keras_model.has_one_bit_kernel(layer) == is_one_bit
    assert not _keras_model.has_one_bit_kernel(keras.layers.Dense(1))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("is_registered", [True, False])
def test_unknown_quantizer_is_named_without_its_config(suffix, is_registered, tmp_path):
    class Mine(lq.quantizers.SteSign):
        pass

    if is_registered:
        keras.utils.register_keras_serializable("tests")(Mine)
    inputs = keras.Input((8, 8, 3))
    layer = lq.layers.QuantConv2D(4, 3, input_quantizer=Mine(), name="conv")
    path = tmp_path / f"model.{suffix}"
    keras.Model(inputs, layer(inputs)).save(path)
    # As in another process.
    keras.utils.get_custom_objects().pop("tests>Mine", None)
    with pytest.raises(ValueError, match=r"Mine.* registered") as info:
        _safe_load.load_model(path)
    assert "strides" not in str(info.value)
    assert len(str(info.value)) < 300 + len(str(path))
