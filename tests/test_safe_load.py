"""Files of models from anywhere: what people use loads, and nothing else happens."""

import io
import json
import os
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

import bireal_keras
from bireal_keras import zoo
from bireal_keras._keras import keras, lq, tf
from bireal_keras._safe_load import load_model
from bireal_keras.zoo import _registry

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")

FORMATS = (".keras", ".h5")
SHAPE = (8, 8, 4)


def dense():
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(3, name="fc")(x))


def saved(model, path):
    model.save(path)
    return path


def read_config(path):
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return json.loads(file.attrs["model_config"])
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def write_config(path, config):
    """Another config in the file of a model."""
    text = config if isinstance(config, str) else json.dumps(config)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text
        return path
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"config.json": text.encode()}).items():
            archive.writestr(name, content)
    return path


@pytest.fixture(params=FORMATS)
def suffix(request):
    return request.param


@pytest.fixture
def model_file(tmp_path, suffix):
    """(path, config) of a model of one Dense layer, to be changed."""
    path = saved(dense(), tmp_path / f"model{suffix}")
    return path, read_config(path)


def layer_of(config, name="fc"):
    return next(layer for layer in config["config"]["layers"] if layer["name"] == name)


def function_layer(function, node, *, module="tf_keras.src.layers.core.tf_op_layer", kind=None):
    name = kind or "TFOpLambda"
    return {
        "module": module,
        "class_name": name,
        "config": {"name": "op", "trainable": True, "dtype": "float32", "function": function},
        "registered_name": name,
        "name": "op",
        "inbound_nodes": [node],
    }


def refused(path, match):
    with pytest.raises(ValueError, match=match) as error:
        load_model(path)
    message = str(error.value)
    assert message.startswith(f"{path} cannot be loaded: ")
    assert "\n" not in message


# What can be done by calling one function with constants.
CALLS = {
    "delete a folder": ("io.gfile.rmtree", "{victim}", {}),
    "copy a file": ("io.gfile.copy", "{victim}/thesis.txt", {"dst": "{victim}/stolen.txt"}),
    "write a file": ("io.write_file", "{victim}/thesis.txt", {"contents": "x"}),
    "read a file": ("io.read_file", "{victim}/thesis.txt", {}),
    "load native code": ("load_op_library", "{victim}/evil.so", {}),
    "load native code by its old name": ("compat.v1.load_op_library", "{victim}/evil.so", {}),
    "run Python": ("numpy_function", "print", {"inp": [], "Tout": "float32"}),
    "load a SavedModel": ("saved_model.load", "{victim}", {}),
    "load another model": ("keras.models.load_model", "{victim}/other.h5", {}),
    "end the process": ("debugging.assert_equal", 1, {"y": 2}),
    "change a setting": ("keras.backend.set_floatx", "float16", {}),
    "start a server": ("profiler.experimental.server.start", 6009, {}),
}


@pytest.mark.parametrize("kind", ["TFOpLambda", "SlicingOpLambda"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_functions_that_do_more_than_compute(tmp_path, model_file, call, kind):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("years of work")
    function, argument, arguments = json.loads(
        json.dumps(call).replace("{victim}", str(victim).replace("\\", "/"))
    )
    path, config = model_file
    layers = config["config"]["layers"]
    layers.append(function_layer(function, ["_CONSTANT_VALUE", -1, argument, arguments], kind=kind))
    refused(write_config(path, config), f"layer 'op' (calls '{function}'|is called on constants)")
    # Nor after an input, which would defer the call to the first prediction.
    layers[-1]["inbound_nodes"] = [["x", 0, 0, arguments]]
    refused(write_config(path, config), f"layer 'op' calls '{function}', which is not one of")
    assert [file.name for file in victim.iterdir()] == ["thesis.txt"]
    assert (victim / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "node",
    [
        ["_CONSTANT_VALUE", -1, 1.0, {"y": 2.0}],
        [["_CONSTANT_VALUE", -1, 1.0, {}], ["_CONSTANT_VALUE", -1, 2.0, {}]],
        # Keras passes on the arguments of the last entry only.
        [["_CONSTANT_VALUE", -1, 1.0, {"y": ["x", 0, 0]}], ["_CONSTANT_VALUE", -1, 2.0, {}]],
        [],
    ],
)
def test_even_harmless_functions_are_not_called_on_constants(model_file, node):
    path, config = model_file
    config["config"]["layers"].append(function_layer("math.add", node))
    refused(write_config(path, config), "'op' is called on constants alone")


def nested(layer):
    """Places where a layer's config can stand within others."""
    return {
        "in a model": {
            "module": "keras",
            "class_name": "Sequential",
            "config": {"name": "inner", "layers": [layer]},
            "registered_name": None,
        },
        "in a wrapper": {
            "module": "keras.layers",
            "class_name": "TimeDistributed",
            "config": {"name": "wrapper", "layer": layer},
            "registered_name": None,
        },
        "as an argument of an argument": {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"name": "fc", "units": 3, "activation": {"a": [layer]}},
            "registered_name": None,
        },
        "where a layer is built": {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"name": "fc", "units": 3},
            "registered_name": None,
            "build_config": {"input_shape": layer},
        },
    }


def keras_object(class_name, module="keras.layers", registered_name=None, **config):
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": registered_name,
    }


OBJECTS = {
    "Python code": keras_object("Lambda", function=["4wEAAAA=", None, None]),
    "a lambda": {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}},
    "a file of words": keras_object("StringLookup", vocabulary="/etc/passwd"),
    "a file of numbers": keras_object("IntegerLookup", vocabulary="/etc/passwd"),
    "a file of text": keras_object("TextVectorization", vocabulary="/etc/passwd"),
    "a graph": keras_object("TensorFlowOpLayer", node_def="x", constants={}),
    "a loop in Python": keras_object("SpectralNormalization", power_iterations=10**9),
    "a method": keras_object("InstanceMethod", attr_name="__reduce__"),
    "a property": keras_object("InstanceProperty", attr_name="graph"),
    "a method of a class": keras_object("ClassMethod", cls_symbol="Variable", method_name="load"),
    "a module to import": keras_object("system", module="os"),
    "a module of Keras's utilities": keras_object("get_file", module="keras.utils"),
    "a function of Python": keras_object("function", module="os", registered_name="system"),
    "a class of another module": keras_object("Dense", module="antigravity"),
    "a class under a wrong name": keras_object("Lambda", registered_name="QuantConv2D"),
    "a class under two names": keras_object("Popen", "subprocess", registered_name="SteSign"),
    "an optimizer": keras_object("Custom>Adam", registered_name="Custom>Adam"),
    "a type": {"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []},
    "an old type": {"class_name": "TypeSpec", "type_spec": "tf.TensorSpec", "serialized": []},
    "a composite tensor": {"_TYPE": "COMPOSITE"},
    "a huge text": {"class_name": "__numpy__", "config": {"value": "x", "dtype": "U1000000000"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("place", nested(None))
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_that_are_not_known(model_file, name, place):
    path, config = model_file
    layer_of(config).update(nested(OBJECTS[name])[place])
    refused(
        write_config(path, config),
        "Python code|neither a common one of Keras|composite tensor|array of the type|must be",
    )


@pytest.mark.parametrize("key", ["activation", "kernel_initializer", "bias_regularizer"])
@pytest.mark.parametrize("name", ["get_file", "os.system", "keras_export", "deserialize", ""])
def test_functions_by_their_names(model_file, key, name):
    path, config = model_file
    layer_of(config)["config"][key] = name
    refused(write_config(path, config), f"`{key}` '{name}' is not one of Keras's or a registered")


def test_a_layer_by_its_name_alone(model_file):
    path, config = model_file
    layer_of(config).update(keras_object("TimeDistributed", name="fc", layer="Dense"))
    refused(write_config(path, config), "`layer` 'Dense' must be a layer")


def test_a_lambda_says_what_to_do_instead(tmp_path, suffix):
    x = keras.Input((2,))
    path = saved(
        keras.Model(x, keras.layers.Lambda(lambda v: v + 1, name="plus_one")(x)),
        tmp_path / f"model{suffix}",
    )
    refused(path, r"layer 'plus_one' is a Lambda layer: Python code .*register_keras_serializable")


@keras.utils.register_keras_serializable(package="tests")
class Doubled(keras.layers.Layer):
    """A user's own layer, whose argument is not a name that Keras knows."""

    def __init__(self, activation="mine", **kwargs):
        super().__init__(**kwargs)
        self.activation = activation

    def call(self, inputs):
        return 2 * inputs

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}


class Halved(keras.layers.Layer):
    """A layer that nobody registered."""

    def call(self, inputs):
        return inputs / 2


def check_loads(model, path):
    """Loads to the same weights and, on the same input, the same outputs."""
    loaded = load_model(saved(model, path))
    assert loaded.optimizer is None
    inputs = [
        np.random.default_rng(0).normal(size=(2, *x.shape[1:])).astype(np.float32)
        for x in model.inputs
    ]
    for expected, weight in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    for expected, result in zip(
        *(tf.nest.flatten(m(inputs, training=False)) for m in (model, loaded)), strict=True
    ):
        np.testing.assert_array_equal(result, expected)


def test_layers_of_the_program(tmp_path, suffix):
    x = keras.Input((2,))
    check_loads(keras.Model(x, Doubled()(x)), tmp_path / f"model{suffix}")
    path = saved(keras.Model(x, Halved(name="half")(x)), tmp_path / f"other{suffix}")
    refused(path, "layer 'half' is of the class 'Halved'.*nor registered in this program")
    assert load_model(path, {"Halved": Halved}).get_layer("half").__class__ is Halved
    with keras.utils.custom_object_scope({"Halved": Halved}):
        assert load_model(path).get_layer("half").__class__ is Halved


# Other sizes have the same layers, but for the blocks of 50 and 152.
ONE_OF_EACH_FAMILY = {
    (entry.family, entry.is_real): name for name, entry in reversed(_registry.MODELS.items())
}


@pytest.mark.proof
@pytest.mark.parametrize("name", sorted({*ONE_OF_EACH_FAMILY.values(), "BiRealNet50"}))
def test_models_of_the_zoo(tmp_path, suffix, name):
    model = zoo.create_model(name, input_shape=(16, 16, 3), num_classes=3, width=2, stem="cifar")
    check_loads(model, tmp_path / f"model{suffix}")


layers = keras.layers
LAYERS = {
    "dense": [layers.Flatten(), layers.Dense(3, "relu", kernel_regularizer="l2")],
    "conv": [layers.Conv2D(3, 3, activation=tf.nn.relu, kernel_constraint="max_norm")],
    "depthwise": [layers.DepthwiseConv2D(3), layers.SeparableConv2D(2, 3)],
    "transpose": [layers.Conv2DTranspose(3, 3), layers.UpSampling2D(2)],
    "norms": [
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
    ],
    "activations": [layers.ReLU(6), layers.PReLU(shared_axes=[1, 2]), layers.LeakyReLU()],
    "more activations": [layers.Activation("swish"), layers.ELU(), layers.Softmax()],
    "pools": [layers.MaxPooling2D(), layers.AveragePooling2D(), layers.GlobalAveragePooling2D()],
    "shapes": [layers.Reshape((16, 16)), layers.Permute((2, 1)), layers.Cropping1D(1)],
    "paddings": [layers.ZeroPadding2D(1), layers.Cropping2D(1)],
    "augmentation": [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomCrop(6, 6)],
    "preprocessing": [layers.Rescaling(2.0), layers.Normalization(mean=1, variance=2)],
    "resizing": [layers.Resizing(6, 6), layers.CenterCrop(4, 4)],
    "noise": [layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.SpatialDropout2D(0.5)],
    "recurrent": [layers.TimeDistributed(layers.LSTM(3)), layers.Bidirectional(layers.GRU(2))],
    "cells": [layers.Reshape((8, 32)), layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])],
    "initializers": [
        layers.Conv2D(3, 1, kernel_initializer=keras.initializers.Constant(2.0)),
        layers.Conv2D(3, 1, kernel_initializer=keras.initializers.Orthogonal(seed=1)),
    ],
    "mixed precision": [layers.Conv2D(3, 1, dtype="mixed_bfloat16")],
    "larq": [
        lq.layers.QuantConv2D(3, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign"),
        lq.layers.QuantConv2D(
            4,
            3,
            input_quantizer=lq.quantizers.ApproxSign(),
            kernel_quantizer=lq.quantizers.MagnitudeAwareSign(),
            kernel_constraint="weight_clip",
            pad_values=1.0,
        ),
        lq.layers.QuantDepthwiseConv2D(3, depthwise_quantizer="ste_tern"),
    ],
    "larq's dense": [
        layers.Flatten(),
        lq.layers.QuantDense(3, kernel_quantizer="dorefa_quantizer"),
    ],
}


def apply(stack, x):
    for layer in stack:
        x = layer.__class__.from_config(layer.get_config())(x)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_common_layers(tmp_path, suffix, name):
    x = keras.Input(SHAPE)
    check_loads(keras.Model(x, apply(LAYERS[name], x)), tmp_path / f"model{suffix}")


def test_larqs_metrics_have_variables_that_a_file_may_lack(tmp_path, suffix):
    x = keras.Input((1, 1, 512))
    quantizer = lq.quantizers.SteSign(metrics=["flip_ratio"])
    y = lq.layers.QuantConv2D(512, 3, padding="same", kernel_quantizer=quantizer)(x)
    check_loads(keras.Model(x, y), tmp_path / f"model{suffix}")


def test_models_in_models(tmp_path, suffix):
    """Called twice, and with a Sequential that learns its input from the first call."""
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, layers.Conv2D(4, 3, padding="same")(inner_input))
    inner.compile("adam", "mse")
    sequence = keras.Sequential([layers.BatchNormalization(), layers.ReLU()])
    started = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 1)])
    x = keras.Input(SHAPE)
    y = layers.Add()([inner(x), inner(sequence(inner(started(x))))])
    check_loads(keras.Model(x, [y, started(y)]), tmp_path / f"model{suffix}")


def test_a_compiled_model_is_loaded_without_its_losses(tmp_path, suffix):
    model = dense()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    check_loads(model, tmp_path / f"model{suffix}")


FUNCTIONS = {
    "arithmetic": lambda x, y: (2.0 - x) * (y + 1.0) / 3.0 - x**2 + abs(-y) % 2.0,
    "comparison": lambda x, y: tf.cast((x < y) | ~(x >= 0.5) & (y > 0.0), tf.float32),
    "sign by where": lambda x, y: tf.where(x >= 0.0, tf.ones_like(x), -tf.ones_like(x)),
    "straight-through sign": lambda x, y: x + tf.stop_gradient(tf.sign(x) - x),
    "slices": lambda x, y: x[:, 1:3, tf.newaxis, ::2] + tf.expand_dims(y[:, 1:3, ::2], 2),
    "shapes": lambda x, y: tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [tf.shape(x)[0], -1]),
    "joined": lambda x, y: tf.concat([x, y, tf.add_n([x, y])], axis=-1),
    "split": lambda x, y: tf.stack(tf.split(x, 2, axis=-1), axis=1),
    "reductions": lambda x, y: tf.reduce_mean(x, [1, 2]) + tf.reduce_max(y, [1, 2]),
    "clips": lambda x, y: keras.backend.clip(x, -1, 1) + tf.nn.relu6(y) + tf.clip_by_value(x, 0, 1),
    "activations": lambda x, y: keras.activations.gelu(x) + tf.nn.silu(y) + tf.tanh(tf.sigmoid(x)),
    "pools": lambda x, y: tf.nn.avg_pool2d(x, 2, 2, "SAME") + tf.nn.max_pool2d(y, 2, 2, "SAME"),
    "padding": lambda x, y: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
    "convolution": lambda x, y: tf.nn.conv2d(x, np.ones((1, 1, 4, 2), np.float32), 1, "SAME"),
    "resize": lambda x, y: tf.image.resize(x, (16, 16)) + tf.image.resize(y, (16, 16), "nearest"),
    "space": lambda x, y: tf.nn.space_to_depth(tf.nn.depth_to_space(x, 2), 2),
    "gather": lambda x, y: tf.gather(x, [0, 2], axis=3),
    "indices": lambda x, y: tf.one_hot(tf.argmax(x, axis=-1), 4) + tf.math.top_k(y, 4)[0],
    "norms": lambda x, y: tf.nn.l2_normalize(x, axis=-1) * tf.sqrt(tf.square(y)),
    "matrices": lambda x, y: tf.matmul(x, y, transpose_b=True),
    "constant first": lambda x, y: tf.constant([1.0, 2.0, 3.0, 4.0]) * x + 1.0 / (2.0 + y * y),
    "fake quantization": lambda x, y: tf.quantization.fake_quant_with_min_max_args(x, -1, 1),
    "preprocessing": lambda x, y: keras.applications.mobilenet_v2.preprocess_input(x),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_compute(tmp_path, suffix, name):
    x, y = keras.Input(SHAPE), keras.Input(SHAPE)
    model = keras.Model([x, y], FUNCTIONS[name](x, y))
    assert any(type(layer).__name__.endswith("OpLambda") for layer in model.layers)
    check_loads(model, tmp_path / f"model{suffix}")


class TestSize:
    """A small file asks for little work and memory, whatever it says."""

    def test_weights_that_the_file_does_not_hold(self, model_file):
        path, config = model_file
        layer_of(config)["config"]["units"] = 10**9
        refused(write_config(path, config), r"weights of more than 16,000,000,000 bytes")

    def test_models_in_models_that_multiply(self, model_file):
        path, config = model_file
        bomb = {"class_name": "Dense", "module": "keras.layers", "registered_name": None}
        bomb["config"] = {"name": "fc", "units": 4}
        for depth in range(12):
            name = f"level{depth}"
            calls = [[["x", 0, 0, {}]] for _ in range(10)]
            entry = {"class_name": "InputLayer", "config": {"name": "x"}, "name": "x"}
            bomb = {
                "class_name": "Functional",
                "config": {
                    "name": name,
                    "layers": [
                        {**entry, "inbound_nodes": []},
                        {**bomb, "name": "inner", "inbound_nodes": calls},
                    ],
                    "input_layers": [["x", 0, 0]],
                    "output_layers": [["x", 0, 0]],
                },
            }
        config["config"]["layers"].append({**bomb, "name": name, "inbound_nodes": calls})
        refused(write_config(path, config), "consists of more than 200,000 layers")

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ([["missing", 0, 0, {}]], "'fc' waits for outputs that never come"),
            ([["fc", 0, 0, {}]], "'fc' waits for outputs that never come"),
            ([["other", 0, 0, {}]], "waits for outputs that never come"),
            ([["x", 0, 0, {"mask": ["other", 5, 0]}]], "waits for outputs that never come"),
        ],
    )
    def test_layers_that_wait_for_ever(self, model_file, nodes, message):
        """Keras itself looks for their inputs again and again."""
        path, config = model_file
        layer_of(config)["inbound_nodes"] = [nodes]
        other = json.loads(json.dumps(layer_of(config)))
        other["name"] = other["config"]["name"] = "other"
        other["inbound_nodes"] = [[["fc", 0, 0, {}]]]
        config["config"]["layers"].append(other)
        refused(write_config(path, config), message)

    def test_a_sequential_model_without_that_call(self, model_file):
        path, config = model_file
        inner = keras_object("Sequential", "keras", name="inner", layers=[])
        inner["config"]["layers"] = [keras_object("Dense", name="fc2", units=2)]
        calls = [[["x", 0, 0, {}]]]
        config["config"]["layers"].append({**inner, "name": "inner", "inbound_nodes": calls})
        layer_of(config)["inbound_nodes"] = [[["inner", 1, 0, {}]]]
        refused(write_config(path, config), "'fc' waits for outputs that never come")

    def test_unrolled_loops(self, model_file):
        path, config = model_file
        layer_of(config).update(keras_object("LSTM", name="fc", units=2, unroll=True))
        refused(write_config(path, config), "'fc' is unrolled")

    def test_outputs_without_number(self, model_file):
        path, config = model_file
        node = ["x", 0, 0, {"num_or_size_splits": 10**9, "axis": 0}]
        config["config"]["layers"].append(function_layer("split", node))
        refused(write_config(path, config), "splits a tensor into 1,000,000,000 parts")

    def test_deep_nesting(self, model_file):
        path, config = model_file
        text = json.dumps(config).replace('"units": 3', '"units": ' + "[" * 20000 + "]" * 20000)
        with pytest.raises(ValueError, match=r"cannot be loaded: .*recursion"):
            load_model(write_config(path, text))


class TestArchive:
    """A .keras file is a zip archive, and those have tricks of their own."""

    @pytest.fixture
    def path(self, tmp_path):
        return saved(dense(), tmp_path / "model.keras")

    def parts(self, path):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def test_files_outside_of_the_archive(self, path, tmp_path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../outside.txt", "x")
            archive.writestr(str(tmp_path / "absolute.txt"), "x")
            archive.writestr("assets/vocabulary.txt", "x")
        load_model(path)
        assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_configs(self, path):
        config = read_config(path)
        layer_of(config).update(OBJECTS["Python code"])
        for order in (0, 1):
            parts = self.parts(path)
            configs = [parts.pop("config.json"), json.dumps(config)]
            other = path.with_name(f"order{order}.keras")
            with zipfile.ZipFile(other, "w") as archive:
                for content in configs[:: 1 if order else -1]:
                    archive.writestr("config.json", content)
                for name, content in parts.items():
                    archive.writestr(name, content)
            if order:
                refused(other, "Lambda layer")
            else:
                assert load_model(other).count_params() == 15

    def test_weights_of_another_format(self, path):
        parts = self.parts(path)
        buffer = io.BytesIO()
        np.savez(buffer, a=np.array([object()]))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", parts["config.json"])
            archive.writestr("model.weights.npz", buffer.getvalue())
        refused(path, r"it has no model\.weights\.h5")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
    @pytest.mark.parametrize("claimed", [None, 10])
    def test_bombs(self, path, name, claimed):
        parts = self.parts(path) | {name: bytes(200_000_000)}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in parts.items():
                archive.writestr(entry, content)
        if claimed is not None:
            data = bytearray(path.read_bytes())
            entry = data.rindex(name.encode()) - 46
            assert data[entry : entry + 4] == b"PK\x01\x02"
            struct.pack_into("<I", data, entry + 24, claimed)
            path.write_bytes(data)
        del parts
        size = path.stat().st_size
        tracemalloc.start()
        try:
            refused(path, "takes more than|Bad CRC|is damaged|Expecting|file signature|truncated")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000 + 70 * size
        finally:
            tracemalloc.stop()

    def test_a_file_of_keras_3(self, path):
        config = read_config(path)
        layer_of(config)["inbound_nodes"] = [
            {"args": [{"class_name": "__keras_tensor__", "config": {}}], "kwargs": {}}
        ]
        refused(write_config(path, config), r"calls a layer on|saved by Keras 3")


class TestWhatIsNotAModel:
    def test_nothing(self, tmp_path):
        with pytest.raises(ValueError, match=r"there is no model .*none\.keras"):
            load_model(tmp_path / "none.keras")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"TFL3" * 9])
    def test_other_files(self, tmp_path, content):
        path = tmp_path / "model.keras"
        path.write_bytes(content)
        refused(path, r"neither a \.keras nor an \.h5 file|not a zip file|Unable to .*open file")

    def test_a_queue(self, tmp_path):
        path = tmp_path / "model.h5"
        os.mkfifo(path)
        refused(path, "it is neither a file nor a folder")

    def test_weights_without_a_model(self, tmp_path):
        path = tmp_path / "weights.h5"
        dense().save_weights(path)
        refused(path, "weights, and not a model")


def test_a_folder_is_a_program(tmp_path):
    """As a SavedModel is one by design: it loads."""
    model = dense()
    model.save(tmp_path / "model")
    x = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(load_model(tmp_path / "model")(x), model(x), rtol=1e-6)


def test_is_public():
    assert bireal_keras.load_model is load_model
    assert "load_model" in dir(bireal_keras)
