"""A `.pt2` file, in which `torch.export.save` keeps a program: checked before PyTorch sees it.

`torch.export.load` trusts a file with everything. It unpickles weights, constants and example
inputs; it runs `guards_code`, names of tensors become a part of Python code that it compiles, sizes
are evaluated as formulas, operators are looked up by any name that begins with "torch", and the
descriptions of arguments may import modules. So it gets another file, in which there is nothing of
that kind: a list of operators that only compute, names that are names, sizes that are numbers,
and weights that are plain numbers, as many as the file holds. Example inputs and what PyTorch notes
down for people are left out.

Nothing here needs PyTorch. The format is that of PyTorch 2.13 (torch/export/pt2_archive and
torch/_export/serde/schema.py in its sources).
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from typing import Any

# What a program may compute with: `torch.ops.aten` and one of these. They read and write tensors
# only, and give what their arguments say.
_OPERATORS = frozenset(
    (
        *("_adaptive_avg_pool2d", "_assert_tensor_metadata", "_softmax", "_to_copy", "abs"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "add_"),
        *("addmm", "alias", "amax", "amin", "avg_pool1d", "avg_pool2d", "batch_norm", "bmm", "cat"),
        *("ceil", "chunk", "clamp", "clamp_", "clamp_max", "clamp_min", "clone", "contiguous"),
        *("conv1d", "conv2d", "convolution", "detach", "detach_", "div", "div_", "dropout"),
        *("dropout_", "elu", "eq", "exp", "expand", "expand_as", "feature_dropout", "flatten"),
        *("floor", "ge", "gelu", "gt", "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_"),
        *("hardtanh", "hardtanh_", "layer_norm", "le", "leaky_relu", "leaky_relu_"),
        *("lift_fresh_copy", "linear", "log", "log_softmax", "logical_and", "logical_not"),
        *("logical_or", "lt", "matmul", "max_pool2d", "maximum", "mean", "minimum", "mm", "mul"),
        *("mul_", "narrow", "ne", "neg", "ones_like", "pad", "permute", "pixel_shuffle", "pow"),
        *("prelu", "reciprocal", "relu", "relu6", "relu6_", "relu_", "reshape", "round", "rsqrt"),
        *("rsub", "scalar_tensor", "select", "sigmoid", "sigmoid_", "sign", "silu", "silu_"),
        *("slice", "softmax", "split", "sqrt", "square", "squeeze", "stack", "sub", "sub_", "sum"),
        *("t", "tanh", "tanh_", "to", "transpose", "type_as", "unbind", "unsqueeze"),
        *("upsample_bilinear2d", "upsample_nearest2d", "view", "view_as", "where", "zeros_like"),
    )
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.\w+", re.ASCII)
_NAME = re.compile(r"[\w.-]*", re.ASCII)
# Names and classes of modules: "L__self__,,__main__.Net;L__self___conv,conv,torch.nn.Conv2d".
_STACK = re.compile(r"[\w.,;@()<>\[\] ]*", re.ASCII)
# What describes arguments, by the names that PyTorch gives to Python's own types.
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")
# Bytes of a number by PyTorch's number of its type: of float32, and of what counts batches.
_ITEM_BYTES = {5: 8, 7: 4, 12: 1}
_PLAIN_LAYOUT = 7
_MODEL = "models/model.json"
_WEIGHTS, _CONSTANTS = "data/weights/", "data/constants/"
# PyTorch reads these first; their values are those of its own files.
_FORMAT = {
    "archive_format": b"pt2",
    "archive_version": b"0",
    "byteorder": b"little",
    ".data/version": b"6\n",
}


def checked(content: bytes) -> bytes:
    """A file of the same program that `torch.export.load` can be given.

    Args:
        content: of the `.pt2` file.

    Raises:
        ValueError: it is not such a file, is damaged, or asks for more than to compute.
    """
    try:
        archive = _Archive(content)
        program = _program(json.loads(archive.read(_MODEL)))
        parts = {_MODEL: _dumped(program), "data/sample_inputs/model.pt": b""}
        for folder, kind in ((_WEIGHTS, "weight"), (_CONSTANTS, "tensor")):
            name = f"{folder}model_{folder.split('/')[1]}_config.json"
            config = json.loads(archive.read(name))
            parts |= {name: _dumped(config)} | dict(_values(archive, folder, kind, config))
    except (AttributeError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"it is damaged, or of another version of PyTorch ({type(error).__name__}: {error}): "
            "save the program again, with the PyTorch that is installed here"
        ) from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ValueError(f"it is not a .pt2 file, or is damaged: {error}") from error
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as written:
        for name, part in (_FORMAT | parts).items():
            written.writestr(f"model/{name}", part)
    return copy.getvalue()


class _Archive:
    """The parts of a file, by their names below its one folder."""

    def __init__(self, content: bytes):
        self._zip = zipfile.ZipFile(io.BytesIO(content))
        self._left = len(content)
        names = self._zip.namelist()
        roots = {name.partition("/")[0] for name in names}
        if len(roots) != 1:
            raise ValueError(
                "it is of an older PyTorch, or not a program of torch.export.save: save it again "
                "with the PyTorch that is installed here"
            )
        self._root = roots.pop()
        self._parts: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """The content of a part; all together may be as large as the file."""
        if name in self._parts:
            return self._parts[name]
        try:
            info = self._zip.getinfo(f"{self._root}/{name}")
        except KeyError as error:
            raise ValueError(
                f"it has no {name}: save the program again, with the PyTorch that is installed here"
            ) from error
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self._left:
            raise ValueError("its parts are compressed, or take more than the file has")
        self._left -= info.file_size
        self._parts[name] = self._zip.read(info)
        return self._parts[name]


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _program(program: dict[str, Any]) -> dict[str, Any]:
    """The program, less what does not compute."""
    module = program["graph_module"]
    module["metadata"] = module["treespec_namedtuple_fields"] = {}
    program["guards_code"] = []
    program["torch_version"] = ""
    if program["range_constraints"]:
        raise ValueError("it takes inputs of several sizes: export it without dynamic_shapes")
    for entry in module["module_call_graph"]:
        signature = entry["signature"]
        for key in ("in_spec", "out_spec") if signature else ():
            specification = json.loads(signature[key])
            _check_container(specification[1])
            signature[key] = json.dumps(specification)
    for node in module["graph"]["nodes"]:
        operator = _OPERATOR.fullmatch(node["target"])
        if operator is None or operator[1] not in _OPERATORS:
            raise ValueError(
                f"it uses {node['target'][:80]!r}, which is not among the operators that a program "
                "from elsewhere may use. If you trust it, load it with torch.export.load and give "
                "program.module() to convert_torch"
            )
        # By these PyTorch finds the modules again that layers are named after.
        stack = node["metadata"].get("nn_module_stack", "")
        if not _STACK.fullmatch(stack):
            raise ValueError(f"it is damaged: {stack[:80]!r} names no modules")
        node["metadata"] = {"nn_module_stack": stack}
    _check_names(program)
    return program


def _check_container(part: dict[str, Any]) -> None:
    """Of tuples, lists and dictionaries are a program's inputs and outputs."""
    kind, context = part["type"], part["context"]
    if kind not in (None, *_CONTAINERS) or (context is not None and context not in ("null", "[]")):
        raise ValueError(
            f"it takes or gives {kind!r}: tensors, and tuples and lists of them, can be converted"
        )
    for child in part["children_spec"]:
        _check_container(child)


def _check_names(part: Any, key: str = "") -> None:
    """Texts are names, and become a part of code. Formulas and other graphs there are none.

    The description of arguments has been checked, and is JSON itself.
    """
    if isinstance(part, dict):
        for inner, value in part.items():
            if inner in ("as_expr", "as_graph", "as_custom_obj", "as_operator"):
                raise ValueError(
                    "it has sizes that are computed, other programs inside or objects of other "
                    f"kinds ({inner}): export a module that computes with tensors of fixed sizes"
                )
            _check_name(inner)
            _check_names(value, inner)
    elif isinstance(part, list):
        for value in part:
            _check_names(value, key)
    elif isinstance(part, str) and key not in ("in_spec", "out_spec", "nn_module_stack"):
        _check_name(part)
        if key == "type" and part != "cpu":
            raise ValueError(f"its tensors are on {part!r}: export it on the CPU, module.cpu()")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"it is damaged: {name[:80]!r} is no name")


def _values(
    archive: _Archive, folder: str, kind: str, config: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the parts with weights or constants."""
    _check_names(config)
    for name, value in config["config"].items():
        meta = value["tensor_meta"]
        if value["use_pickle"] or not re.fullmatch(rf"{kind}_\d+", value["path_name"]):
            raise ValueError(
                f"{name!r} is stored as a Python object, which may run code: only plain tensors "
                "are read. Save the program again, with the PyTorch that is installed here"
            )
        if meta["dtype"] not in _ITEM_BYTES or meta["layout"] != _PLAIN_LAYOUT:
            raise ValueError(f"{name!r} is not a float32 tensor: export the module in float32")
        part = archive.read(f"{folder}{value['path_name']}")
        sizes = [size["as_int"] for size in meta["sizes"]]
        # Repeated by strides of 0, a tensor would take more memory than the file.
        if min(sizes, default=0) < 0 or _ITEM_BYTES[meta["dtype"]] * math.prod(sizes) > len(part):
            raise ValueError(f"{name!r} has fewer values than its shape {tuple(sizes)} says")
        yield f"{folder}{value['path_name']}", part
