"""The quantizers against their formulas in NumPy, and against Larq's classes."""

import contextlib
import re

import numpy as np
import pytest

from bireal_keras import quantizers
from bireal_keras._keras import keras, lq, tf
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign

ONE = np.float32(1)
GRID = np.concatenate(
    [
        np.linspace(-2, 2, 1601, dtype=np.float32),
        np.array([-1, -0.0, 0, 1], np.float32),
        # They are the neighbours of the gradient's edges and of the sign's.
        [-np.nextafter(ONE, 2 * ONE), -np.nextafter(ONE, 0 * ONE)],
        [np.nextafter(ONE, 0 * ONE), np.nextafter(ONE, 2 * ONE)],
        np.array([-1e-30, 1e-30, -np.inf, np.inf], np.float32),
    ]
).astype(np.float32)

QUANTIZERS = [ApproxSign, MagnitudeAwareSign]


def kernel(shape=(3, 3, 8, 5), seed=1):
    """Random weights, some beyond +-1, some exactly on an edge, all filters different."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 0.7, shape) * np.linspace(0.1, 2, shape[-1])
    w = w.astype(np.float32)
    w.reshape(-1)[:6] = [0, -0.0, 1, -1, 0.5, -0.5]
    return w


def value_and_gradient(quantizer, x, dy):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizer(x)
    return y.numpy(), tape.gradient(y, x, tf.constant(dy, y.dtype)).numpy()


def numpy_sign(x):
    return np.where(x < 0, -1, 1).astype(x.dtype)


def filter_means(w):
    return np.stack([np.abs(w[..., i]).mean() for i in range(w.shape[-1])])


class TestApproxSign:
    def test_value(self):
        y = ApproxSign()(GRID)
        assert y.dtype == tf.float32
        np.testing.assert_array_equal(y, numpy_sign(GRID))

    def test_zero_and_negative_zero_are_plus_one(self):
        np.testing.assert_array_equal(ApproxSign()(np.array([0.0, -0.0], np.float32)), [1, 1])

    def test_nan_stays_visible(self):
        assert np.isnan(ApproxSign()(np.array([np.nan], np.float32))).all()

    def test_gradient(self):
        finite = GRID[np.isfinite(GRID)]
        dy = np.random.default_rng(0).normal(size=finite.shape).astype(np.float32)
        _, gradient = value_and_gradient(ApproxSign(), finite, dy)
        inside = np.abs(finite) <= 1
        np.testing.assert_array_equal(gradient[~inside], 0)
        np.testing.assert_allclose(
            gradient[inside], ((2 - 2 * np.abs(finite)) * dy)[inside], rtol=1e-6, atol=0
        )

    def test_gradient_is_the_slope_of_the_paper_s_quadratic(self):
        def quadratic(x):
            return np.where(x < 0, 2 * x + x**2, 2 * x - x**2)

        x = np.linspace(-0.99, 0.99, 199)
        _, gradient = value_and_gradient(ApproxSign(dtype="float64"), x, np.ones_like(x))
        h = 1e-3
        slope = (quadratic(x + h) - quadratic(x - h)) / (2 * h)
        # A centred difference of a quadratic is exact but where it straddles the kink at 0.
        away = np.abs(x) > h
        np.testing.assert_allclose(gradient[away], slope[away], atol=1e-9)
        assert gradient[~away] == pytest.approx(2)

    def test_gradient_far_outside_is_zero_not_nan(self):
        x = np.array([-np.inf, -1e38, 1e38, np.inf], np.float32)
        _, gradient = value_and_gradient(ApproxSign(), x, np.ones(4))
        np.testing.assert_array_equal(gradient, 0)


class TestMagnitudeAwareSign:
    @pytest.mark.parametrize("shape", [(3, 3, 8, 5), (1, 1, 7, 3), (12, 4)])
    def test_value(self, shape):
        w = kernel(shape)
        y = MagnitudeAwareSign()(w)
        assert y.dtype == tf.float32
        np.testing.assert_allclose(y, filter_means(w) * numpy_sign(w), rtol=1e-6)

    @pytest.mark.parametrize("clip_value", [1.0, 0.5, None])
    @pytest.mark.parametrize("scale_gradient", [True, False])
    def test_gradient(self, clip_value, scale_gradient):
        w = kernel()
        dy = np.random.default_rng(2).normal(size=w.shape).astype(np.float32)
        _, gradient = value_and_gradient(MagnitudeAwareSign(clip_value, scale_gradient), w, dy)
        mask = np.ones_like(w) if clip_value is None else np.abs(w) <= clip_value
        scale = filter_means(w) if scale_gradient else 1
        np.testing.assert_allclose(gradient, scale * mask * dy, rtol=1e-6, atol=0)

    def test_grid(self):
        w = GRID[np.isfinite(GRID)][:, None]
        dy = np.full_like(w, 3)
        y, gradient = value_and_gradient(MagnitudeAwareSign(), w, dy)
        mean = np.abs(w.astype(np.float64)).mean()
        np.testing.assert_allclose(y, mean * numpy_sign(w), rtol=1e-5)
        np.testing.assert_allclose(gradient, 3 * mean * (np.abs(w) <= 1), rtol=1e-5)

    @pytest.mark.parametrize("scale_gradient", [True, False])
    def test_filter_of_zeros(self, scale_gradient):
        w = kernel()
        w[..., 2] = 0
        dy = np.ones_like(w)
        y, gradient = value_and_gradient(MagnitudeAwareSign(scale_gradient=scale_gradient), w, dy)
        assert np.isfinite(y).all()
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(y[..., 2], 0)
        np.testing.assert_array_equal(gradient[..., 2], 0 if scale_gradient else 1)
        assert (y[..., 1] != 0).all()

    @pytest.mark.parametrize("clip_value", [0, -1.0, float("nan"), "1.0", True])
    def test_bad_clip_value(self, clip_value):
        with pytest.raises(ValueError, match="`clip_value` must be a positive number or None"):
            MagnitudeAwareSign(clip_value)


@pytest.mark.parametrize("cls", QUANTIZERS)
@pytest.mark.parametrize("metrics", [["flips"], ["flip_ratio", "x"], "flip_ratio"])
def test_unknown_metric(cls, metrics):
    expected = re.escape(f"must be None, [] or ['flip_ratio']. Received: metrics={metrics!r}")
    with pytest.raises(ValueError, match=expected):
        cls(metrics=metrics)


def pairs():
    yield "approx_sign", ApproxSign, lq.quantizers.ApproxSign, {}
    for clip_value in (1.0, 0.5, None):
        yield (
            f"magnitude_aware_sign_{clip_value}",
            MagnitudeAwareSign,
            lq.quantizers.MagnitudeAwareSign,
            {"clip_value": clip_value},
        )


PAIRS = [pytest.param(*rest, id=name) for name, *rest in pairs()]


class TestAgainstLarq:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize(("ours", "larqs", "config"), PAIRS)
    def test_value_and_gradient_are_equal(self, ours, larqs, config, dtype):
        x = np.concatenate([GRID[np.isfinite(GRID)], kernel().ravel()])[:, None].astype(dtype)
        dy = np.random.default_rng(3).normal(size=x.shape).astype(dtype)
        y, gradient = value_and_gradient(ours(**config, dtype=dtype), x, dy)
        larq_y, larq_gradient = value_and_gradient(larqs(**config, dtype=dtype), x, dy)
        assert y.dtype == gradient.dtype == dtype
        np.testing.assert_array_equal(y, larq_y)
        np.testing.assert_array_equal(gradient, larq_gradient)

    @pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
    def test_quant_conv2d_is_equal(self, policy):
        """Outputs, and gradients of input and kernel, of a whole layer."""
        layers = []
        with global_policy(policy):
            for module in (lq.quantizers, quantizers):
                layers.append(
                    lq.layers.QuantConv2D(
                        5,
                        3,
                        padding="same",
                        input_quantizer=module.ApproxSign(),
                        kernel_quantizer=module.MagnitudeAwareSign(),
                        kernel_constraint="weight_clip",
                    )
                )
        rng = np.random.default_rng(4)
        x = tf.constant(rng.normal(0, 0.8, (2, 6, 7, 8)), tf.float32)
        dy = rng.normal(size=(2, 6, 7, 5))
        results = []
        for layer in layers:
            layer.build(x.shape)
            layer.kernel.assign(kernel())
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
            gradients = tape.gradient(y, [x, layer.kernel], tf.constant(dy, y.dtype))
            results.append((y, *gradients))
        larqs, ours = results
        assert ours[0].dtype == (tf.float16 if policy == "mixed_float16" else tf.float32)
        for name, a, b in zip(("output", "input gradient", "kernel gradient"), ours, larqs):
            assert np.isfinite(a).all(), name
            assert np.abs(a).max() > 0, name
            np.testing.assert_array_equal(a, b, err_msg=name)

    def test_aliases_and_class_names_still_mean_larqs(self):
        for name, larqs in {
            "approx_sign": lq.quantizers.ApproxSign,
            "magnitude_aware_sign": lq.quantizers.MagnitudeAwareSign,
            "ApproxSign": lq.quantizers.ApproxSign,
            "MagnitudeAwareSign": lq.quantizers.MagnitudeAwareSign,
        }.items():
            assert type(lq.quantizers.get(name)) is larqs

    def test_model_with_larqs_quantizers_still_loads(self, tmp_path):
        model = conv_model("approx_sign", "magnitude_aware_sign")
        model.save(tmp_path / "larq.h5")
        loaded = keras.models.load_model(tmp_path / "larq.h5")
        assert type(loaded.layers[0].input_quantizer) is lq.quantizers.ApproxSign
        assert type(loaded.layers[0].kernel_quantizer) is lq.quantizers.MagnitudeAwareSign
        np.testing.assert_array_equal(loaded(images()), model(images()))


@contextlib.contextmanager
def global_policy(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def images():
    return np.random.default_rng(5).normal(0, 0.8, (2, 6, 7, 3)).astype(np.float32)


def conv_model(input_quantizer, kernel_quantizer):
    return keras.Sequential(
        [
            lq.layers.QuantConv2D(
                4,
                3,
                input_quantizer=input_quantizer,
                kernel_quantizer=kernel_quantizer,
                kernel_constraint="weight_clip",
                input_shape=(6, 7, 3),
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


class TestInKeras:
    @pytest.mark.parametrize("cls", QUANTIZERS)
    def test_is_a_larq_quantizer_of_one_bit(self, cls):
        assert isinstance(cls(), lq.quantizers.Quantizer)
        assert cls().precision == 1
        assert cls().compute_output_shape((None, 4, 4, 3)) == (None, 4, 4, 3)

    @pytest.mark.parametrize("how", ["object", "string", "config"])
    def test_object_string_and_config_are_the_same(self, how):
        objects = ApproxSign(), MagnitudeAwareSign()
        given = {
            "object": objects,
            "string": ("bireal_keras>ApproxSign", "bireal_keras>MagnitudeAwareSign"),
            "config": tuple(lq.quantizers.serialize(quantizer) for quantizer in objects),
        }[how]
        layer = conv_model(*given).layers[0]
        assert type(layer.input_quantizer) is ApproxSign
        assert type(layer.kernel_quantizer) is MagnitudeAwareSign
        x, w = images(), layer.kernel.latent_variable.numpy()
        expected = tf.nn.conv2d(numpy_sign(x), filter_means(w) * numpy_sign(w), 1, "VALID")
        np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)

    def test_config_round_trip_keeps_every_argument(self):
        quantizer = MagnitudeAwareSign(0.25, False, metrics=["flip_ratio"], name="q")
        copy = lq.quantizers.get(lq.quantizers.serialize(quantizer))
        assert copy.get_config() == quantizer.get_config()
        assert (copy.clip_value, copy.scale_gradient, copy.name) == (0.25, False, "q")

    def test_summary_counts_one_bit_weights_and_macs(self, capsys):
        lq.models.summary(conv_model(ApproxSign(), MagnitudeAwareSign()))
        lines = capsys.readouterr().out.splitlines()
        [header] = [line for line in lines if "Layer" in line]
        [row] = [line for line in lines if "quant_conv2d" in line]
        columns = re.split(r"\s{2,}", header.strip("| "))
        cells = re.split(r"\s{2,}", row.strip("| "))
        values = dict(zip(columns, cells, strict=True))
        assert values["Input prec."] == "1"
        assert values["# 1-bit"] == str(3 * 3 * 3 * 4)
        assert values["# 32-bit"] == str(4)
        assert values["1-bit MACs"] == str(4 * 5 * 3 * 3 * 3 * 4)

    @pytest.mark.parametrize("cls", QUANTIZERS)
    def test_tf_function_changes_nothing(self, cls):
        quantizer = cls()
        w, dy = kernel(), kernel(seed=7)
        eager = value_and_gradient(quantizer, w, dy)

        @tf.function
        def graph(x, dy):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = quantizer(x)
            return y, tape.gradient(y, x, dy)

        for a, b in zip(eager, graph(tf.constant(w), tf.constant(dy))):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("suffix", [".h5", ".keras", ""], ids=["h5", "keras", "saved_model"])
    def test_saved_model_comes_back(self, tmp_path, suffix):
        model = conv_model(ApproxSign(), MagnitudeAwareSign(0.5, False))
        path = tmp_path / f"model{suffix}"
        model.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(loaded(images()), model(images()))
        quantizer = loaded.layers[0].kernel_quantizer
        assert type(quantizer) is MagnitudeAwareSign
        assert (quantizer.clip_value, quantizer.scale_gradient) == (0.5, False)


class TestFlipRatio:
    def model(self, quantizer):
        model = keras.Sequential(
            [
                lq.layers.QuantDense(
                    6,
                    kernel_quantizer=quantizer,
                    kernel_constraint="weight_clip",
                    use_bias=False,
                    name="dense",
                    input_shape=(5,),
                )
            ]
        )
        model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.5))
        return model

    @pytest.mark.parametrize("cls", QUANTIZERS)
    def test_counts_flips(self, cls):
        with lq.context.metrics_scope(["flip_ratio"]):
            quantizer = cls()
            w = np.random.default_rng(6).uniform(0.1, 0.9, (4, 5)).astype(np.float32)
            quantizer(w)
        [metric] = quantizer.metrics
        expected = []
        for flips in (0, 3, 7, 20):
            changed = w.copy()
            changed.reshape(-1)[:flips] *= -1
            # Other magnitudes with the same signs are not a flip.
            changed *= 0.5
            before, w = w, changed
            quantizer(w)
            expected.append(np.mean(np.sign(before) != np.sign(w)))
        assert sum(expected) > 0
        assert metric.result().numpy() == pytest.approx(np.mean(expected))

    def fit(self, quantizer):
        keras.utils.set_random_seed(1)
        x = np.random.default_rng(8).normal(size=(12, 5)).astype(np.float32)
        y = np.random.default_rng(9).normal(size=(12, 6)).astype(np.float32)
        with lq.context.metrics_scope(["flip_ratio"]):
            model = self.model(quantizer)
        return model, model.fit(x, y, batch_size=4, epochs=3, verbose=0).history

    def test_logs_like_larqs(self):
        larqs, larq_history = self.fit(lq.quantizers.ApproxSign(name="q"))
        ours, history = self.fit(ApproxSign(name="q"))
        assert history["flip_ratio/q"][-1] > 0
        assert history == larq_history
        assert ours.metrics_names == larqs.metrics_names == ["loss", "flip_ratio/q"]

    def test_logs_flips_of_scaled_signs(self):
        """Larq's FlipRatio rounds scaled signs to integers, 0 all of them, and sees none."""
        model, history = self.fit(MagnitudeAwareSign(name="q"))
        assert model.metrics_names == ["loss", "flip_ratio/q"]
        assert history["flip_ratio/q"][-1] > 0

    @pytest.mark.parametrize("build_in_scope", [True, False])
    def test_scope_counts_for_layers_constructed_in_it(self, build_in_scope):
        names = []
        for kernel_quantizer in ("ste_sign", "bireal_keras>MagnitudeAwareSign"):
            with lq.context.metrics_scope(["flip_ratio"]):
                layer = lq.layers.QuantDense(
                    3, kernel_quantizer=kernel_quantizer, kernel_constraint="weight_clip"
                )
                if build_in_scope:
                    layer(np.ones((2, 4), np.float32))
            layer(np.ones((2, 4), np.float32))
            names.append([metric.name.split("/")[0] for metric in layer.metrics])
        assert names[0] == names[1] == ["flip_ratio"]

    def test_off_by_default_and_off_for_activations(self):
        model = conv_model(ApproxSign(), MagnitudeAwareSign())
        assert model.layers[0].metrics == []
        with lq.context.metrics_scope(["flip_ratio"]):
            model = conv_model(ApproxSign(), MagnitudeAwareSign(name="k"))
        assert [metric.name for metric in model.layers[0].metrics] == ["flip_ratio/k"]
        assert conv_model(ApproxSign(), MagnitudeAwareSign()).layers[0].metrics == []

    def test_own_argument_beats_the_scope(self):
        w = kernel()
        quantizer = MagnitudeAwareSign(metrics=["flip_ratio"])
        quantizer(w)
        assert len(quantizer.metrics) == 1
        with lq.context.metrics_scope(["flip_ratio"]):
            quantizer = MagnitudeAwareSign(metrics=[])
            quantizer(w)
        assert quantizer.metrics == []

    @pytest.mark.slow
    @pytest.mark.parametrize("suffix", [".h5", ".keras", ""], ids=["h5", "keras", "saved_model"])
    def test_is_no_part_of_the_saved_model(self, tmp_path, suffix):
        with lq.context.metrics_scope(["flip_ratio"]):
            model = self.model(MagnitudeAwareSign())
        model.fit(np.ones((4, 5)), np.ones((4, 6)), verbose=0)
        assert [w.shape for w in model.get_weights()] == [(5, 6)]
        path = tmp_path / f"model{suffix}"
        model.save(path)
        loaded = keras.models.load_model(path)
        x = np.random.default_rng(9).normal(size=(3, 5)).astype(np.float32)
        np.testing.assert_array_equal(loaded(x), model(x))
