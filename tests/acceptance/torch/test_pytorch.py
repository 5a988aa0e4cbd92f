"""From PyTorch modules to files on our runtime, against PyTorch. See tools/torch/torch.mk."""

import contextlib
import doctest
import io
import json
import os
import pickle
import re
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_nets as nets
from commands import command
from PIL import Image
from torch import nn

from bireal_keras import runtime
from bireal_keras.export import convert_torch, torch_program
from bireal_keras.export.binarize.graph import Graph

SIZE, CLASSES = 32, 10
EXAMPLE = torch.zeros(1, 3, SIZE, SIZE)
PAGE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
JPEG = b"\xff\xd8\xff"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(block=nets.BasicBlock):
    """Two blocks, the second of which halves the map."""
    return nets.randomized(nets.BiRealNet((1, 1), width=8, classes=CLASSES, block=block))


def images(count=16, size=SIZE):
    """As PyTorch takes them."""
    values = np.random.default_rng(3).normal(size=(count, 3, size, size))
    return torch.from_numpy(values.astype(np.float32))


def channels_last(values):
    return np.ascontiguousarray(values.detach().numpy().transpose(0, 2, 3, 1))


def agree(module, path, x):
    """The file gives what the module does."""
    expected = module.eval()(x).detach().numpy()
    assert expected.std(axis=0).mean() > 0.01
    actual = runtime.Interpreter(path).predict(channels_last(x))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


# The whole way, of the page.


def real_images(folder, count, size):
    """Central squares of ImageNet's photos, in [-1, 1]; each record follows its length."""
    [path] = (folder / "imagenet_samples/1.0.0").glob("*.tfrecord-*")
    content, position, found = path.read_bytes(), 0, []
    while position < len(content) and len(found) < count:
        (length,) = struct.unpack_from("<Q", content, position)
        record = content[position + 12 : position + 12 + length]
        position += length + 16
        image = Image.open(io.BytesIO(record[record.index(JPEG) :])).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.resize((size, size), box=(left, top, left + side, top + side))
        found.append(np.asarray(square, np.float32).transpose(2, 0, 1) / 127.5 - 1)
    return torch.from_numpy(np.stack(found))


@pytest.fixture(scope="module")
def photos(repository):
    """256 images for ImageNet's networks, real ones if they are there."""
    folder = repository.parent / "shared/data/tfds"
    if folder.is_dir():
        return real_images(folder, 256, 224)
    colour = np.random.default_rng(0).uniform(-1, 1, (256, 3, 7, 7)).astype(np.float32)
    return torch.from_numpy(colour.repeat(32, axis=2).repeat(32, axis=3))


@pytest.fixture(scope="module")
def trained(photos):
    """Bi-Real-18 in the authors' code's manner, and its results.

    Its statistics are those of some of the images. A classifier of random weights would be of two
    minds about most of them, so it has one that tells which of the images is the nearest: the
    results are |f|^2 / 2 - |f - f_i|^2 / 2, for the features f of an image and f_i of image i.
    """
    torch.manual_seed(0)
    module = nets.birealnet18()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    classifier, module.fc = module.fc, nn.Identity()
    with torch.no_grad():
        module.train()(photos[::16])
        features = torch.cat([module.eval()(part) for part in photos.split(8)])
        classifier.weight.zero_()[: len(features)] = features
        norms = features.square().sum(dim=1) / 2
        classifier.bias.fill_(-2 * norms.max())[: len(features)] = -norms
        module.fc = classifier
        return module, classifier(features).numpy()


@pytest.fixture(scope="module")
def page(repository, trained, photos, tmp_path_factory):
    """The folder in which the page's code ran, with what it printed and what it should have."""
    folder = tmp_path_factory.mktemp("page")
    module, _ = trained
    state = {f"module.{name}": values for name, values in module.state_dict().items()}
    torch.save({"epoch": 256, "state_dict": state}, folder / "model_best.pth.tar")
    (folder / "labels.txt").write_text("".join(f"class {index}\n" for index in range(1000)))
    pixels = ((photos[0].numpy().transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    examples = PAGE.findall((repository / "docs/pytorch.md").read_text("utf-8"))
    printed, namespace = [], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "birealnet", nets)
        for code, expected in examples:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, "docs/pytorch.md", "exec"), namespace)
            printed.append((output.getvalue(), expected))
    return folder, printed


def test_page_prints_what_it_says(page):
    _, printed = page
    checked = [pair for pair in printed if pair[1]]
    assert len(checked) == 2
    for actual, expected in checked:
        assert doctest.OutputChecker().check_output(expected, actual, doctest.ELLIPSIS), actual


def test_page_s_file_finds_pytorch_s_classes(page, trained, photos):
    """On 256 images; with a sign within rounding of 0 the others of a result change a little."""
    folder, _ = page
    _, expected = trained
    assert expected.argmax(axis=1).tolist() == list(range(256))
    with runtime.Interpreter(folder / "birealnet18.tflite", num_threads=2) as interpreter:
        actual = interpreter.predict(channels_last(photos))
    assert actual.argmax(axis=1).tolist() == list(range(256))
    close = np.abs(actual - expected).max(axis=1) < 1e-4 * np.abs(expected).max()
    assert close.mean() > 1 / 8


def test_page_s_command_makes_the_same_file(page):
    folder, _ = page
    output = folder / "command.tflite"
    done = command(
        "export",
        f"--model={folder / 'birealnet18.pt2'}",
        f"--labels={folder / 'labels.txt'}",
        f"--output={output}",
        *("--normalization=imagenet", "--center_crop=0.875"),
        *("--zero_sign=+1", "--zero_weights=+1"),
    )
    assert done.returncode == 0, done.stderr
    assert "16 bit-packed" in done.stdout
    assert "the float file against PyTorch, 32 samples: " in done.stdout
    assert output.read_bytes() == (folder / "birealnet18.tflite").read_bytes()
    done = command("classify", output, folder / "photo.jpg", "--top_k=1")
    assert done.returncode == 0, done.stderr
    [guess] = runtime.classify(folder / "photo.jpg", folder / "birealnet18.tflite", top_k=1)
    assert guess.label in done.stdout


# Every way to write a layer.


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x >= 0).float() * 2 - 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient


SIGNS = {
    "arithmetic": lambda x: (x >= 0).float() * 2 - 1,
    "where": lambda x: torch.where(x >= 0, 1.0, -1.0),
    "where_like": lambda x: torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x)),
    "estimated": lambda x: x + ((x >= 0).float() * 2 - 1 - x).detach(),
    "clamped": lambda x: (torch.where(x < 0, -1.0, 1.0) - x.clamp(-1, 1)).detach() + x.clamp(-1, 1),
    "function": Function.apply,
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name, tmp_path):
    class Block(nets.BasicBlock):
        def forward(self, x):
            return self.bn1(self.binary_conv(SIGNS[name](x))) + self.downsample(x)

    module = small(Block)
    report = convert_torch(module, tmp_path / "net.tflite", EXAMPLE)
    assert report.binary_convolutions == report.intended_binary_convolutions == 2
    agree(module, tmp_path / "net.tflite", images())
    operators = [one.name for one in Graph((tmp_path / "net.tflite").read_bytes()).operators]
    assert "TRANSPOSE" not in operators
    assert operators.count("LceQuantize") == 2


@pytest.mark.parametrize("block", [nets.BasicBlock, nets.ReActBlock])
def test_published_blocks(block, tmp_path):
    module = small(block)
    report = convert_torch(module, tmp_path / "net.tflite", EXAMPLE, zero_sign="+1")
    assert report.binary_convolutions == 2
    assert report.pytorch.close_samples >= 24
    agree(module, tmp_path / "net.tflite", images())


def test_the_module_stays_as_it_is(tmp_path):
    module = small().train()
    before = {name: values.clone() for name, values in module.state_dict().items()}
    convert_torch(module, tmp_path / "net.tflite", EXAMPLE, zero_sign="+1")
    assert module.training
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())


class Listed(nn.Module):
    """A list of layers, which itself is never called, and one layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 32, 1), nets.HardBinaryConv(32, 32, 1)])
        self.shared = nets.HardBinaryConv(32, 32, 1)

    def forward(self, x):
        x = self.layers[1](SIGNS["arithmetic"](self.layers[0](x)))
        for _ in range(2):
            x = x + self.shared(SIGNS["arithmetic"](x - 0.1))
        return x.mean((2, 3))


def test_layers_have_the_names_of_modules(tmp_path):
    module = nets.randomized(Listed())
    report = convert_torch(module, tmp_path / "net.tflite", EXAMPLE)
    names = [layer.name for layer in report.layers]
    assert names == ["layers.0", "layers.1", "shared", "shared:2"]
    agree(module, tmp_path / "net.tflite", images())


class TwoOfEach(nn.Module):
    """Two images, their map and the classes of it."""

    def __init__(self):
        super().__init__()
        self.conv = nets.HardBinaryConv(32, 8, 1)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x, y):
        features = self.conv(SIGNS["arithmetic"](x - y))
        return features, self.fc(features.mean((2, 3)))


def test_several_inputs_and_outputs_with_the_channels_last(tmp_path):
    module = nets.randomized(TwoOfEach())
    example = (torch.zeros(2, 32, 5, 4), torch.zeros(2, 32, 5, 4))
    samples = [np.random.default_rng(i).normal(size=(8, 32, 5, 4)) for i in (0, 1)]
    report = convert_torch(module, tmp_path / "net.tflite", example, samples=samples)
    assert (report.binary_convolutions, report.samples) == (1, 8)
    x, y = (torch.from_numpy(values[:2].astype(np.float32)) for values in samples)
    results = runtime.Interpreter(tmp_path / "net.tflite").run([channels_last(x), channels_last(y)])
    features, classes = module(x, y)
    np.testing.assert_allclose(results[0], channels_last(features), atol=1e-4)
    np.testing.assert_allclose(results[1], classes.detach().numpy(), atol=1e-4)


# Programs.


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    module = small()
    torch.export.save(torch.export.export(module, (EXAMPLE,)), path)
    return path, module


def test_a_program_gives_its_module_s_file(program, tmp_path):
    path, module = program
    convert_torch(path, tmp_path / "program.tflite", zero_sign="+1")
    convert_torch(module, tmp_path / "module.tflite", EXAMPLE, zero_sign="+1")
    contents = [(tmp_path / f"{name}.tflite").read_bytes() for name in ("program", "module")]
    assert contents[0] == contents[1]
    trusted = torch.export.load(path).module()
    convert_torch(trusted, tmp_path / "trusted.tflite", EXAMPLE, zero_sign="+1")
    agree(module, tmp_path / "trusted.tflite", images())


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def hostile(path, made, target):
    """Programs that PyTorch itself would run code of."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    model_name = next(name for name in parts if name.endswith("models/model.json"))
    if target == "example inputs":
        inputs = next(name for name in parts if "sample_inputs" in name)
        parts[inputs] = pickle.dumps(Payload(made))
    model = json.loads(parts[model_name])
    if target == "guards":
        model["guards_code"] = [f"__import__('os').mkdir({str(made)!r}) or True"]
    if target == "sizes":
        size = {"expr_str": f"__import__('os').mkdir({str(made)!r})", "hint": None}
        values = model["graph_module"]["graph"]["tensor_values"]
        next(iter(values.values()))["sizes"][0] = {"as_expr": size}
    parts[model_name] = json.dumps(model).encode()
    with zipfile.ZipFile(path.with_name("hostile.pt2"), "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return path.with_name("hostile.pt2")


@pytest.mark.parametrize("target", ["example inputs", "guards", "sizes"])
def test_a_hostile_program_runs_no_code(target, program, tmp_path):
    made = tmp_path / "made"
    path = hostile(program[0], made, target)
    with contextlib.suppress(ValueError):
        convert_torch(path, tmp_path / "net.tflite", zero_sign="+1")
    assert not made.exists()
    # So it would have been.
    with contextlib.suppress(Exception):
        torch.export.load(path).module()(EXAMPLE)
    assert made.exists()


# Errors.


def test_layers_that_stay_float_are_named(tmp_path):
    message = r"layer1\.0\.binary_conv \(tf_sign\): .* torch\.sign do: .*\(x >= 0\)\.float\(\) \* 2"
    with pytest.raises(ValueError, match=message):
        convert_torch(small(), tmp_path / "net.tflite", EXAMPLE)
    module = small()
    with torch.no_grad():
        module.layer2[0].binary_conv.weights[100] = 0
    with pytest.raises(ValueError, match=r"layer2\.0\.binary_conv \(zero_weights\): 1 of the wei"):
        convert_torch(module, tmp_path / "net.tflite", EXAMPLE, zero_sign="+1")
    report = convert_torch(
        module, tmp_path / "net.tflite", EXAMPLE, zero_sign="+1", zero_weights="+1"
    )
    assert "weights of exactly 0, which count as +1 (1)" in str(report)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Random(nn.Module):
    def forward(self, x):
        return F.dropout(x.mean((2, 3)), 0.5, training=True)


class Dictionary(nn.Module):
    def forward(self, x):
        return {"x": x}


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        ("net.pth", EXAMPLE, "`example_inputs` must be None for a program"),
        (np.zeros(3), EXAMPLE, r"`module` must be a torch\.nn\.Module or .*numpy\.ndarray"),
        (Branching(), None, "`example_inputs` must be float32 tensors .* Received: None"),
        (Branching(), EXAMPLE.double(), r"Received: torch\.float64 \(1, 3, 32, 32\)"),
        (Branching(), [EXAMPLE, 3], r"Received: torch\.float32 \(1, 3, 32, 32\), 3"),
        (Branching(), EXAMPLE, "Branching cannot be converted: .*data-dependent"),
        (Dictionary(), EXAMPLE, "Dictionary cannot be converted: it must give a tensor"),
        (Random(), EXAMPLE, r"Random cannot be converted: dropout is in training mode\. Call mod"),
    ],
)
def test_what_cannot_be_converted(module, example, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        convert_torch(module, tmp_path / "net.tflite", example)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "net.tflite").exists()


def test_a_float_file_that_is_another_module_s(tmp_path, monkeypatch):
    other = torch_program.float_file(small(), (EXAMPLE,), "another")
    monkeypatch.setattr(torch_program, "float_file", lambda *_: other)
    message = "does not compute what PyTorch does: none of 32 samples is equal up to rounding"
    with pytest.raises(ValueError, match=message):
        convert_torch(nets.randomized(small(), 1), tmp_path / "net.tflite", EXAMPLE)


def test_a_program_in_training_mode(tmp_path):
    torch.export.save(torch.export.export(small().train(), (EXAMPLE,)), tmp_path / "net.pt2")
    with pytest.raises(ValueError, match=r"is in training mode\. Call module\.eval\(\) before tor"):
        convert_torch(tmp_path / "net.pt2", tmp_path / "net.tflite")


def test_a_program_that_takes_integers(tmp_path):
    program = torch.export.export(nn.Embedding(4, 8), (torch.zeros(1, 5, dtype=torch.int64),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ValueError, match=r"it uses 'torch\.ops\.aten\.embedding\.default', whi"):
        convert_torch(tmp_path / "net.pt2", tmp_path / "net.tflite")
    program = torch.export.export(nn.ReLU(), (torch.zeros(1, 5, dtype=torch.int64),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ValueError, match=r"must take float32 tensors .*torch\.int64 \(1, 5\)"):
        convert_torch(tmp_path / "net.pt2", tmp_path / "net.tflite")


def test_command_says_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"no program")
    done = command("export", f"--model={tmp_path / 'net.pt2'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(
        f"bireal-export: {tmp_path / 'net.pt2'} cannot be loaded: it is not a .pt2 file"
    )
