"""Programs of PyTorch: what is left out of them, and what is refused. PyTorch is not needed."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from bireal_keras.export import pt2

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def program(repository):
    return (repository / "tests/export/torch_files/program.pt2").read_bytes()


def parts_of(content):
    """{name: content} of the parts, without the name of the folder that they are all in."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def archived(parts, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(f"program/{name}", part)
    return file.getvalue()


def edited(content, name, change):
    """The file with one of its JSON parts changed."""
    parts = parts_of(content)
    value = json.loads(parts[name])
    change(value)
    return archived(parts | {name: json.dumps(value).encode()})


def nodes(model):
    return model["graph_module"]["graph"]["nodes"]


def test_the_program_stays(program):
    before, after = parts_of(program), parts_of(pt2.checked(program))
    weights = [name for name in before if name.startswith("data/weights/weight_")]
    assert len(weights) > 5
    assert all(after[name] == before[name] for name in weights)
    assert json.loads(after[WEIGHTS]) == json.loads(before[WEIGHTS])
    models = [json.loads(parts[MODEL]) for parts in (before, after)]
    for model in models:
        for node in nodes(model):
            del node["metadata"]
    graphs = [model["graph_module"]["graph"] for model in models]
    assert graphs[0] == graphs[1]
    assert pt2.checked(pt2.checked(program)) == pt2.checked(program)


def test_what_could_run_is_left_out(program):
    def change(model):
        model["guards_code"] = ["__import__('os').system('true')"]
        model["graph_module"]["metadata"] = {"custom": "{}"}
        nodes(model)[0]["metadata"]["source_fn_stack"] = "x,torch.load"

    hostile = edited(program, MODEL, change)
    hostile = archived(parts_of(hostile) | {"data/sample_inputs/model.pt": pickle.dumps(print)})
    hostile = archived(parts_of(hostile) | {"data/aotinductor/model/x.so": b"\x7fELF"})
    parts = parts_of(pt2.checked(hostile))
    assert parts["data/sample_inputs/model.pt"] == b""
    assert not any("aotinductor" in name for name in parts)
    model = json.loads(parts[MODEL])
    assert model["guards_code"] == []
    assert model["graph_module"]["metadata"] == {}
    assert all(set(node["metadata"]) == {"nn_module_stack"} for node in nodes(model))


def set_target(target):
    return lambda model: nodes(model)[0].update(target=target)


def set_input_name(model):
    name = "x=__import__('os').system('true')"
    model["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = name


def set_size(model):
    values = model["graph_module"]["graph"]["tensor_values"]
    next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": "print(1)", "hint": None}}


def set_specification(kind, context="null"):
    def change(model):
        signature = model["graph_module"]["module_call_graph"][0]["signature"]
        part = {"type": kind, "context": context, "children_spec": []}
        signature["out_spec"] = json.dumps([1, part])

    return change


def set_device(model):
    next(iter(model["graph_module"]["graph"]["tensor_values"].values()))["device"]["type"] = "cuda"


def set_stack(model):
    nodes(model)[0]["metadata"]["nn_module_stack"] = 'a,b")+print("c,d'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_target("torch.load"), "it uses 'torch.load', .* If you trust it"),
        (set_target("torch.ops.aten.from_file.default"), "it uses 'torch.ops.aten.from_file"),
        (set_target("torch.ops.aten.relu.__class__.x"), "it uses 'torch.ops.aten.relu.__class__"),
        (set_target("_operator.call"), "it uses '_operator.call'"),
        (set_target("#extension:op"), "it uses '#extension:op'"),
        (set_input_name, "is no name"),
        (set_size, r"it has sizes that are computed.*as_expr"),
        (set_specification("collections.defaultdict"), "it takes or gives 'collections.defaultd"),
        (set_specification("builtins.tuple", '{"__enum__": true}'), "it takes or gives 'builtins"),
        (set_device, r"its tensors are on 'cuda': export it on the CPU"),
        (set_stack, "names no modules"),
        (lambda model: model.update(range_constraints={"s0": {}}), "without dynamic_shapes"),
        (lambda model: model.pop("graph_module"), r"another version of PyTorch \(KeyError"),
        (lambda model: model.update(graph_module=[]), r"another version of PyTorch \(TypeError"),
    ],
)
def test_programs_that_do_more_than_compute(change, message, program):
    with pytest.raises(ValueError, match=message):
        pt2.checked(edited(program, MODEL, change))


def first_weight(config):
    return next(iter(config["config"].values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_pickle": True}, "'0.weight' is stored as a Python object, which may run code"),
        ({"path_name": "opaque_obj_0"}, "'0.weight' is stored as a Python object"),
        ({"path_name": "../weight_0"}, "'../weight_0' is no name"),
        ({"path_name": "weight_99"}, "it has no data/weights/weight_99"),
    ],
)
def test_weights_that_are_more_than_numbers(change, message, program):
    hostile = edited(program, WEIGHTS, lambda config: first_weight(config).update(change))
    with pytest.raises(ValueError, match=message):
        pt2.checked(hostile)


@pytest.mark.parametrize("strides", [0, 1])
def test_weights_that_take_more_memory_than_the_file(strides, program):
    def change(config):
        meta = first_weight(config)["tensor_meta"]
        meta["sizes"] = [{"as_int": 1 << 40}]
        meta["strides"] = [{"as_int": strides}]

    with pytest.raises(ValueError, match="has fewer values than its shape"):
        pt2.checked(edited(program, WEIGHTS, change))


def test_a_name_of_a_weight_that_is_code(program):
    def change(config):
        config["config"]['x"); print("'] = first_weight(config)

    with pytest.raises(ValueError, match="is no name"):
        pt2.checked(edited(program, WEIGHTS, change))


def test_compressed_parts(program):
    parts = parts_of(program) | {"data/weights/weight_0": b"\0" * (1 << 20)}
    with pytest.raises(ValueError, match="are compressed, or take more than the file has"):
        pt2.checked(archived(parts, zipfile.ZIP_DEFLATED))


def test_files_of_older_versions(program):
    older = io.BytesIO()
    with zipfile.ZipFile(older, "w") as archive:
        archive.writestr("version", "8.4")
        archive.writestr("serialized_state_dict.pt", b"")
    with pytest.raises(ValueError, match=r"of an older PyTorch.* save it again"):
        pt2.checked(older.getvalue())
    parts = parts_of(program)
    parts["data/weights/model.pt"] = parts.pop(WEIGHTS)
    with pytest.raises(ValueError, match=r"it has no data/weights/model_weights_config\.json: s"):
        pt2.checked(archived(parts))


def test_damaged_files(program):
    """Cut off anywhere, or with bytes changed: an error of one line, or a checked program."""
    rng = np.random.default_rng(0)
    damaged = [b"", b"no program", *(program[:size] for size in range(0, len(program), 997))]
    for _ in range(100):
        changed = bytearray(program)
        for position in rng.integers(0, len(program), 3):
            changed[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    errors = []
    for one in damaged:
        try:
            pt2.checked(one)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > len(program) // 997
    assert not any("\n" in error for error in errors)


def test_deep_nesting(program):
    parts = parts_of(program) | {MODEL: b"[" * 100_000}
    with pytest.raises(ValueError, match="damaged"):
        pt2.checked(archived(parts))
