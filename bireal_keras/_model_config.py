"""Checks what a Keras model's file asks Keras to build, before Keras sees it.

A file describes a model as JSON. From it Keras makes objects of any class that can be imported
and calls any function of TensorFlow, on constants while the file is read. Here only what is known
to do nothing but arithmetic passes: common layers, initializers and the like, functions of
TensorFlow that compute, and what this program itself registered with Keras, as this package and
Larq do.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from bireal_keras._keras import keras


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODELS = _words("Functional Model Sequential")

# Left out are layers that read files (StringLookup and others take the path of a vocabulary),
# hold Python code (Lambda), a graph of TensorFlow (TensorFlowOpLayer) or methods of any class, or
# loop in Python as often as an argument says (SpectralNormalization).
_LAYERS = _words(
    """
    InputLayer Dense EinsumDense Embedding Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU
    Softmax Masking Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout
    GaussianDropout GaussianNoise ActivityRegularization Flatten Reshape Permute RepeatVector
    Conv1D Conv2D Conv3D Convolution1D Convolution2D Convolution3D DepthwiseConv1D
    DepthwiseConv2D SeparableConv1D SeparableConv2D SeparableConvolution1D
    SeparableConvolution2D Conv1DTranspose Conv2DTranspose Conv3DTranspose Convolution2DTranspose
    Convolution3DTranspose Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D
    UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D AveragePooling1D AveragePooling2D
    AveragePooling3D AvgPool1D AvgPool2D AvgPool3D MaxPooling1D MaxPooling2D MaxPooling3D
    MaxPool1D MaxPool2D MaxPool3D GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalMaxPooling3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D
    Add Subtract Multiply Average Maximum Minimum Concatenate Dot
    BatchNormalization LayerNormalization GroupNormalization UnitNormalization
    SyncBatchNormalization
    Attention AdditiveAttention MultiHeadAttention
    Rescaling Resizing CenterCrop Normalization Discretization CategoryEncoding RandomFlip
    RandomCrop RandomRotation RandomTranslation RandomZoom RandomContrast RandomBrightness
    RandomHeight RandomWidth
    TimeDistributed Bidirectional RNN SimpleRNN SimpleRNNCell LSTM LSTMCell GRU GRUCell
    StackedRNNCells ConvLSTM1D ConvLSTM2D ConvLSTM3D
    TFOpLambda SlicingOpLambda
    """
)
_FUNCTION_LAYERS = _words("TFOpLambda SlicingOpLambda")

# What `layer = f(x)` with one of TensorFlow's functions becomes. None of them touches a file, a
# variable or Python, draws random numbers, or has as many outputs as an input has rows.
# "compat.v1." before a name is the same function.
_FUNCTIONS = _words(
    """
    argsort batch_to_space bitcast boolean_mask broadcast_to cast clip_by_norm clip_by_value
    concat ensure_shape expand_dims eye fill floor_div gather gather_nd identity meshgrid
    norm one_hot ones_like pad rank realdiv repeat reshape reverse roll searchsorted shape size
    slice sort space_to_batch split squeeze stack stop_gradient strided_slice tensordot tile
    transpose where zeros_like dtypes.saturate_cast
    quantization.fake_quant_with_min_max_args quantization.fake_quant_with_min_max_vars
    quantization.fake_quant_with_min_max_vars_per_channel
    quantization.quantize_and_dequantize_v2

    __operators__.add __operators__.getitem

    math.abs math.acos math.acosh math.add math.add_n math.argmax math.argmin math.asin
    math.asinh math.atan math.atan2 math.atanh math.ceil math.cos math.cosh math.count_nonzero
    math.cumprod math.cumsum math.divide math.divide_no_nan math.equal math.erf math.erfc
    math.exp math.expm1 math.floor math.floordiv math.floormod math.greater math.greater_equal
    math.in_top_k math.is_finite math.is_inf math.is_nan math.l2_normalize math.less
    math.less_equal math.log math.log1p math.log_sigmoid math.logical_and math.logical_not
    math.logical_or math.logical_xor math.maximum math.minimum math.multiply
    math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal
    math.reciprocal_no_nan math.reduce_all math.reduce_any math.reduce_euclidean_norm
    math.reduce_logsumexp math.reduce_max math.reduce_mean math.reduce_min math.reduce_prod
    math.reduce_std math.reduce_sum math.reduce_variance math.rint math.round math.rsqrt
    math.scalar_mul math.sigmoid math.sign math.sin math.sinh math.softplus math.sqrt
    math.square math.squared_difference math.subtract math.tan math.tanh math.top_k math.truediv
    math.zero_fraction

    nn.avg_pool nn.avg_pool1d nn.avg_pool2d nn.avg_pool3d nn.batch_normalization nn.bias_add
    nn.conv1d nn.conv1d_transpose nn.conv2d nn.conv2d_transpose nn.conv3d nn.conv3d_transpose
    nn.conv_transpose nn.convolution nn.crelu nn.depth_to_space nn.depthwise_conv2d
    nn.dilation2d nn.elu nn.erosion2d nn.gelu nn.l2_loss nn.leaky_relu
    nn.local_response_normalization nn.log_softmax nn.max_pool nn.max_pool1d nn.max_pool2d
    nn.max_pool3d nn.moments nn.pool nn.relu nn.relu6 nn.selu nn.separable_conv2d nn.silu
    nn.softmax nn.softsign nn.space_to_depth

    linalg.adjoint linalg.band_part linalg.cross linalg.diag linalg.diag_part linalg.matmul
    linalg.matrix_transpose linalg.matvec linalg.normalize linalg.set_diag linalg.trace

    image.adjust_brightness image.adjust_contrast image.adjust_gamma image.adjust_hue
    image.adjust_saturation image.central_crop image.convert_image_dtype
    image.crop_and_resize image.crop_to_bounding_box image.extract_patches
    image.flip_left_right image.flip_up_down image.grayscale_to_rgb image.hsv_to_rgb
    image.pad_to_bounding_box image.per_image_standardization image.resize
    image.resize_with_crop_or_pad image.resize_with_pad image.rgb_to_grayscale image.rgb_to_hsv
    image.rgb_to_yiq image.rgb_to_yuv image.rot90 image.sobel_edges image.transpose
    image.yiq_to_rgb image.yuv_to_rgb
    """
)

# Where Keras keeps the classes above. Another module would be imported and searched.
_MODULES = re.compile(
    r"(tf_)?keras(\.(src\.)?(activations|applications|constraints|engine|initializers|layers"
    r"|mixed_precision|models|regularizers)(\.\w+)*)?"
)
# Arguments whose text is the name of a function or class.
_NAMING = re.compile(r".*(activation|initializer|regularizer|constraint|quantizer)")
# Arguments that hold a layer, which may not be named by text alone.
_HOLDING = _words("layer forward_layer backward_layer cell cells")
# What Keras writes for values that JSON has not, and the types of numbers in them.
_VALUES = _words("__tuple__ __ellipsis__ __bytes__ TensorShape")
_ARRAYS = _words("__numpy__ __tensor__")
_NUMBERS = re.compile(r"bool|u?int(8|16|32|64)|b?float(16|32|64)")

# More than any network has. Keras's own work grows with the square of a model's layers, and
# with each call of a model in a model.
_MAX_LAYERS = 10_000
_MAX_OBJECTS = 200_000
# Keras goes through the layers again and again until all their inputs are there. It writes them
# in an order in which few passes are enough, and never ends where something is missing.
_MAX_PASSES = 100


def check(config: Any, custom_objects: dict[str, Any]) -> None:
    """Checks a model's config.

    Args:
        config: what the file's JSON says, that of a .keras or of an .h5 file.
        custom_objects: {name: class or function} in addition to what the program has registered
            with Keras.

    Raises:
        ValueError: it names a class or function that may not be built or called, calls
            something on constants alone, or asks for far more work than its size.
    """
    try:
        _Checker(custom_objects).check(config)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"its description of the layers is damaged: {error!r}") from error
    if _count_objects(config) > _MAX_OBJECTS:
        raise ValueError(f"it consists of more than {_MAX_OBJECTS:,} layers and other objects")


class _Checker:
    def __init__(self, custom_objects: dict[str, Any]):
        self._custom_objects = custom_objects
        self._classes = _LAYERS | _MODELS | {"Policy"}
        self._functions = _LAYERS | _public(keras.activations) | {"softmax_v2"}
        for namespace in (keras.initializers, keras.regularizers, keras.constraints):
            self._classes |= {name for name in dir(namespace) if name[0].isupper()}
            self._functions |= _public(namespace)

    def check(self, value: Any, key: str = "", *, by_keras: bool = True) -> None:
        """Checks a value and all within it.

        Args:
            value: from JSON.
            key: the argument that it is.
            by_keras: whether Keras looks up what that argument names. The program's own
                layers know what they do with it.
        """
        if isinstance(value, list):
            for item in value:
                self.check(item, key, by_keras=by_keras)
        elif isinstance(value, dict):
            self._check_dict(value, by_keras)
        elif isinstance(value, int) and key == "num_or_size_splits" and value > _MAX_LAYERS:
            raise ValueError(f"it splits a tensor into {value:,} parts")
        elif isinstance(value, str) and by_keras:
            if _NAMING.fullmatch(key) and not self._is_function(value):
                raise ValueError(f"its `{key}` {value!r} is not one of Keras's or a registered one")
            if key in _HOLDING:
                raise ValueError(f"its `{key}` {value!r} must be a layer")

    def _check_dict(self, value: dict[str, Any], by_keras: bool) -> None:
        if "_TYPE" in value:
            raise ValueError("it holds a composite tensor")
        if "class_name" in value:
            name, config = value["class_name"], value.get("config")
            if not isinstance(name, str):
                raise ValueError(f"the class {name!r} has no name")
            if name in _ARRAYS:
                _check_array(config)
            elif name == "function":
                self._check_function(value)
            elif name not in _VALUES:
                by_keras = self._check_class(name, value)
                _check_arguments(name, config)
        for key, item in value.items():
            self.check(item, key, by_keras=by_keras)
        if "input_layers" in value and isinstance(value.get("layers"), list):
            _check_graph(value["layers"])

    def _check_class(self, name: str, value: dict[str, Any]) -> bool:
        """Returns whether the class's arguments are looked up by Keras."""
        layer = _layer_name(value)
        if name in ("Lambda", "__lambda__"):
            raise ValueError(
                f"{layer} is a Lambda layer: Python code inside of the file, which is disallowed. "
                "Make it a class of your own and register that with "
                "keras.saving.register_keras_serializable"
            )
        if name in ("__keras_tensor__", "DTypePolicy"):
            raise ValueError(
                "it was saved by Keras 3, and Larq works with legacy Keras (tf-keras) only. To "
                "export it, load it in Keras 3 and call bireal_keras.export.convert, or write a "
                "SavedModel: model.export(folder)"
            )
        # An .h5 file's classes are found by the first name, a .keras file's by the second one,
        # and where that is not registered, by the first one in the module. All must be right.
        known_as, module = value.get("registered_name") or name, value.get("module")
        found = self._find(known_as)
        if known_as == name and name in self._classes and found is None:
            if module is None or _is_keras(module):
                return True
        elif self._is_registered(known_as) and name in (known_as, found.__name__):
            module_needed = value.get("registered_name") is None and module is not None
            if not module_needed or module == found.__module__:
                return bool(found.__module__.partition(".")[0] in ("larq", "tf_keras"))
        where = f" of {module}" if module else ""
        raise ValueError(
            f"{layer} is of the class {name!r}{where}, which is neither a common one of Keras nor "
            "registered in this program, as by keras.saving.register_keras_serializable or by "
            "the import of what defines it"
        )

    def _check_function(self, value: dict[str, Any]) -> None:
        name, module = value.get("config"), value.get("module")
        known_as = value.get("registered_name") or "function"
        found = self._find(name)
        modules = (None, "builtins", getattr(found, "__module__", None))
        if not (
            isinstance(name, str)
            and self._is_function(name)
            and known_as in ("function", name)
            and (module in modules or _is_keras(module))
        ):
            raise ValueError(
                f"its function {name!r} of {module} is neither a common one of Keras nor "
                "registered in this program"
            )

    def _is_function(self, name: str) -> bool:
        return name in self._functions or self._is_registered(name)

    def _find(self, name: Any) -> Any:
        """The class or function that the program registered under a name, or None."""
        if not isinstance(name, str):
            return None
        return keras.utils.get_registered_object(name, self._custom_objects)

    def _is_registered(self, name: Any) -> bool:
        """Whether the program registered it: what Keras registers itself is not all harmless."""
        found = self._find(name)
        package = str(getattr(found, "__module__", "")).partition(".")[0]
        own = package not in ("keras", "tf_keras", "tensorflow")
        return found is not None and (own or name == "Custom>CustomScaleLayer")


def _public(namespace: Any) -> set[str]:
    names = {name for name in dir(namespace) if not name.startswith("_")}
    return names - {"get", "serialize", "deserialize"}


def _is_keras(module: Any) -> bool:
    return isinstance(module, str) and _MODULES.fullmatch(module) is not None


def _layer_name(value: dict[str, Any]) -> str:
    config = value.get("config")
    name = value.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return f"its layer {name!r}" if name else "an object in it"


def _check_array(config: Any) -> None:
    dtype = config.get("dtype") if isinstance(config, dict) else None
    if not isinstance(dtype, str) or not _NUMBERS.fullmatch(dtype):
        raise ValueError(f"it holds an array of the type {dtype!r}, not of numbers")


def _check_arguments(name: str, config: Any) -> None:
    if not isinstance(config, dict):
        return
    if name in _FUNCTION_LAYERS:
        function = config.get("function")
        if not isinstance(function, str) or function.removeprefix("compat.v1.") not in _FUNCTIONS:
            raise ValueError(
                f"its layer {config.get('name')!r} calls {function!r}, which is not one of "
                "TensorFlow's functions that are known to do nothing but compute"
            )
    if config.get("unroll"):
        raise ValueError(f"its layer {config.get('name')!r} is unrolled: set unroll=False")
    # As a loop in Python over all pairs of pixels.
    if config.get("implementation") not in (None, 1, 2):
        raise ValueError(f"its layer {config.get('name')!r} must have implementation=1 or 2")


class _Call(NamedTuple):
    """One call of a layer: the outputs of others that it needs, and whether any is an input."""

    needs: frozenset[tuple[str, int]]
    has_input: bool


def _check_graph(layers: list[Any]) -> None:
    """Checks that the layers of a functional model can be called one after the other."""
    if len(layers) > _MAX_LAYERS:
        raise ValueError(f"it has {len(layers):,} layers, and may have {_MAX_LAYERS:,}")
    inputs, first, waiting = set(), {}, {}
    for layer in layers:
        name = layer["name"]
        if name in waiting:
            raise ValueError(f"two of its layers are called {name!r}")
        calls = deque(_call(node) for node in layer["inbound_nodes"])
        if not all(call.has_input for call in calls):
            raise ValueError(f"its layer {name!r} is called on constants alone")
        waiting[name] = calls
        first[name] = int(_is_called_when_made(layer))
        if layer["class_name"] == "InputLayer":
            inputs.add(name)

    done: Counter[str] = Counter()

    def is_there(layer: str, call: int) -> bool:
        return layer in inputs or first.get(layer, 0) <= call < first.get(layer, 0) + done[layer]

    for _ in range(_MAX_PASSES):
        for name in list(waiting):
            calls = waiting[name]
            while calls and all(is_there(*needed) for needed in calls[0].needs):
                calls.popleft()
                done[name] += 1
            if not calls:
                del waiting[name]
        if not waiting:
            return
    raise ValueError(f"its layer {next(iter(waiting))!r} waits for outputs that never come")


def _call(node: Any) -> _Call:
    entries = list(_entries(node))
    direct = {(entry[0], entry[1]) for entry in entries if entry[0] != "_CONSTANT_VALUE"}
    arguments = [_outputs(entry[3]) if len(entry) == 4 else set() for entry in entries]
    # Of several entries Keras passes on the keyword arguments of the last one.
    passed = direct | (arguments[-1] if arguments else set())
    return _Call(frozenset(direct.union(*arguments)), bool(passed))


def _entries(node: Any) -> Iterator[list[Any]]:
    """The inputs of a call, [layer, call, output, keyword arguments], however they are nested."""
    if _is_entry(node):
        yield node
    elif isinstance(node, (list, dict)):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _entries(item)
    else:
        raise ValueError(f"it calls a layer on {node!r}")


def _outputs(arguments: Any) -> set[tuple[str, int]]:
    """The outputs of layers among keyword arguments."""
    if _is_entry(arguments):
        return {(arguments[0], arguments[1])}
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    if not isinstance(arguments, list):
        return set()
    return set().union(*map(_outputs, arguments))


def _is_entry(value: Any) -> bool:
    # By this rule Keras itself tells an output of a layer from a list of values.
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)


def _is_called_when_made(layer: Any) -> bool:
    """Whether a layer is a model with inputs of its own: its first call is not in the list."""
    config = layer.get("config")
    if not isinstance(config, dict):
        return False
    if layer["class_name"] == "Sequential" and config.get("layers"):
        start = config["layers"][0]
        shape = (start.get("config") or {}).get("batch_input_shape")
        return start["class_name"] == "InputLayer" or bool(shape) or _is_called_when_made(start)
    return "input_layers" in config


def _count_objects(value: Any) -> int:
    """How many objects Keras makes or calls; a model in a model counts at each of its calls."""
    if isinstance(value, list):
        return sum(map(_count_objects, value))
    if not isinstance(value, dict):
        return 0
    within = sum(_count_objects(item) for item in value.values())
    if "class_name" not in value:
        return within
    nodes = value.get("inbound_nodes")
    calls = len(nodes) + 1 if isinstance(nodes, list) else 1
    # A layer around another one may call it twice, once to learn the shape.
    return calls * (1 + (within if value["class_name"] in _MODELS else 2 * within))
