"""What a comparison finds, layer by layer: against Keras run by hand and counts by hand."""

import numpy as np
import pytest
from export_helpers import SIZE, build, edit, larq_conv, packed

from bireal_keras import zoo
from bireal_keras._keras import keras
from bireal_keras.export import comparison, probes
from bireal_keras.export.converter import convert
from bireal_keras.export.samples import random_samples

RUNTIME = [probes.run_on_runtime]


@pytest.fixture(scope="module")
def samples():
    return random_samples((SIZE, SIZE, 3), 20)


@pytest.mark.slow
@pytest.mark.parametrize("witness", ["lce", "none"])
def test_every_layer_of_a_right_file(witness, small, samples):
    """On our runtime, and beside it on LCE's interpreter; more images than one batch."""
    runners = [probes.run_on_lce, *RUNTIME] if witness == "lce" else RUNTIME
    [expected], found = comparison.compare(small.model, small.content, [samples], runners)
    assert len(found) == len(runners)
    np.testing.assert_allclose(expected, small.model(samples, training=False), rtol=1e-5)
    inputs = keras.Model(
        small.model.input,
        [small.model.get_layer(f"block{block}_conv").input for block in (1, 2, 3)],
    )(samples)
    for compared in found:
        assert compared.all_signs_told
        assert compared.first_wrong is None
        *layers, output = compared.layers
        assert [layer.name for layer in layers] == ["block1_conv", "block2_conv", "block3_conv"]
        for layer, values in zip(layers, inputs):
            assert layer.signs == values.numpy().size
            assert layer.spread == pytest.approx(values.numpy().std(), rel=1e-4)
            assert (layer.flips, layer.free_flips, layer.wrong_bits) == (0, 0, 0)
        assert (output.name, output.signs) == ("output", 0)
        assert compared.signs == sum(layer.signs for layer in layers)
        # Rounding takes a small part of what it may.
        for layer in compared.layers:
            assert 0 <= layer.difference < 0.2 * layer.tolerance
        assert output.difference > 0
        assert compared.close.all()
        np.testing.assert_allclose(*compared.outputs, expected, rtol=1e-4)
    assert layers[0].computed_by[0] == "stem_conv"
    assert layers[1].computed_by == ("block1_conv", "block1_bn", "block1_add")
    assert output.computed_by[-1] == "head"


@pytest.mark.slow
def test_an_interpreter_that_differs_on_some_images(small, samples):
    """Beside another it is compared as it is alone, though Keras runs again for those only."""

    def flipping(content):
        run = probes.run_on_runtime(content)

        def flipped(inputs):
            outputs = run(inputs)
            for values in outputs:
                if values.dtype == np.int32:
                    values[1:7:5] ^= 1
            return outputs

        return flipped

    _, [right, beside] = comparison.compare(
        small.model, small.content, [samples], [*RUNTIME, flipping]
    )
    _, [alone] = comparison.compare(small.model, small.content, [samples], [flipping])
    assert right.first_wrong is None
    assert beside.flips == alone.flips > 100
    assert beside.first_wrong.name == alone.first_wrong.name == "block1_conv"
    for mine, theirs in zip(beside.layers, alone.layers, strict=True):
        assert (mine.signs, mine.flips, mine.free_flips) == (
            theirs.signs,
            theirs.flips,
            theirs.free_flips,
        )
        assert mine.difference == pytest.approx(theirs.difference, rel=1e-3, abs=1e-5)
        assert mine.spread == pytest.approx(theirs.spread, rel=1e-4)
    np.testing.assert_array_equal(beside.close, alone.close)


def test_progress_is_told(small, samples):
    done = []
    comparison.compare(small.model, small.content, [samples], RUNTIME, progress=done.append)
    assert done == [8, 16, 20]


def test_less_precision_takes_a_part_of_a_larger_tolerance(small, samples):
    def halve(data):
        values = data.view(np.float32)
        values[:] = values.astype(np.float16)

    content = edit(small.content, "CONV_2D", 1, halve)
    _, [strict] = comparison.compare(small.model, content, [samples], RUNTIME)
    assert strict.first_wrong is not None
    _, [wide] = comparison.compare(small.model, content, [samples], RUNTIME, tolerance=0.01)
    assert wide.first_wrong is None
    differences = [[layer.difference for layer in one.layers] for one in (strict, wide)]
    assert differences[0] == differences[1]


@pytest.mark.slow
def test_flips_that_follow_from_flips():
    """Fresh BatchNorms leave sums of signs around exactly zero: flips by the thousand."""
    model = zoo.BinaryPlainNet18(input_shape=(16, 16, 3), num_classes=10, width=4, stem="cifar")
    content = packed(model)
    images = random_samples((16, 16, 3), 8)
    _, [compared] = comparison.compare(model, content, [images], RUNTIME)
    assert compared.free_flips > compared.flips > 1000
    assert max(layer.difference / layer.tolerance for layer in compared.layers) < 0.5


def test_wrong_bits_are_counted(small, samples):
    def flip_three(data):
        data[0] ^= 0b111

    content = edit(small.content, "LceBconv2d", 1, flip_three, which=1)
    _, [compared] = comparison.compare(small.model, content, [samples], RUNTIME)
    assert [layer.wrong_bits for layer in compared.layers] == [0, 3, 0, 0]
    assert compared.first_wrong.name == "block2_conv"


@pytest.mark.slow
def test_signs_that_cannot_be_told(tmp_path):
    """A layer that stayed float takes signs that are not the input of a binary convolution."""

    def layers(x):
        x = larq_conv(8, name="packed")(x)
        return larq_conv(8, name="padded", pad_values=-1.0)(x)

    model = build(layers, (8, 8, 4))
    convert(model, tmp_path / "model.tflite", allow_float=True)
    content = (tmp_path / "model.tflite").read_bytes()
    _, [compared] = comparison.compare(model, content, [random_samples((8, 8, 4))], RUNTIME)
    assert not compared.all_signs_told
    assert [layer.name for layer in compared.layers] == ["packed", "output"]
