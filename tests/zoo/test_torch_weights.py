"""The authors' PyTorch state dicts, against PyTorch implementations of the same nets.

The nets below have the names and shapes of the authors' state dicts and are written from the
architecture's description, independently of the Keras code.
"""

import functools
import os
import re
import sys

import numpy as np
import pytest

from bireal_keras import runtime, zoo
from bireal_keras._keras import keras

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
nn = torch.nn
F = nn.functional

CLASSES = 10
WIDTH = 8
# No value that gets a sign may be nearer to 0. So no sign depends on how the two frameworks
# round, nor on the one rule in which they differ: torch.sign(0) is 0.
MARGIN = 1e-5


class Sign(nn.Module):
    def forward(self, x):
        assert x.abs().min() > MARGIN, "take another seed"
        return torch.sign(x)


def one_bit(latent):
    """Signs times the mean magnitude of each filter."""
    return torch.sign(latent) * latent.abs().mean((1, 2, 3), keepdim=True)


class FlatBinaryConv(nn.Module):
    """3x3; the latent weights are one column."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.shape, self.stride = (filters, channels, 3, 3), stride
        self.weights = nn.Parameter(torch.empty(filters * channels * 9, 1))

    def forward(self, x):
        return F.conv2d(x, one_bit(self.weights.view(self.shape)), stride=self.stride, padding=1)


class BasicBlock(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.sign = Sign()
        self.binary_conv = FlatBinaryConv(channels, filters, stride)
        self.bn1 = nn.BatchNorm2d(filters)
        self.downsample = nn.Identity()
        if stride == 2:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(2),
                nn.Conv2d(channels, filters, 1, bias=False),
                nn.BatchNorm2d(filters),
            )

    def forward(self, x):
        return self.bn1(self.binary_conv(self.sign(x))) + self.downsample(x)


class BasicNet(nn.Module):
    """Bi-Real Net 18 and 34."""

    def __init__(self, blocks, width=WIDTH, classes=CLASSES):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(blocks):
            filters = width * 2**stage
            stage_blocks = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                stage_blocks.append(BasicBlock(channels, filters, stride))
                channels = filters
            self.add_module(f"layer{stage + 1}", nn.Sequential(*stage_blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.max_pool2d(self.bn1(self.conv1(x)), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class BinaryConv(nn.Conv2d):
    """The latent weights lie as in any convolution; padding keeps the size at stride 1."""

    def __init__(self, channels, filters, size, stride=1):
        super().__init__(channels, filters, size, stride, padding=size // 2, bias=False)

    def forward(self, x):
        return F.conv2d(x, one_bit(self.weight), stride=self.stride, padding=self.padding)


class Bottleneck(nn.Module):
    def __init__(self, channels, narrow, wide, stride, *, first):
        super().__init__()
        self.first, self.changes, self.stride = first, channels != wide, stride
        self.sign = Sign()
        self.conv1 = nn.Conv2d(channels, narrow, 1, bias=False)
        if not first:
            self.conv1 = BinaryConv(channels, narrow, 1)
        self.conv2 = BinaryConv(narrow, narrow, 3, stride)
        self.conv3 = BinaryConv(narrow, wide, 1)
        self.bn1, self.bn2, self.bn3 = map(nn.BatchNorm2d, (narrow, narrow, wide))
        if self.changes:
            # It is made for the first block, too, and not used there.
            self.down_conv1x1 = nn.Conv2d(channels // 4, narrow, 1, bias=False)
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, streams):
        narrow, wide = streams
        if self.first:
            inside = torch.where(wide.abs() > 1, wide.sign() + 0.1 * (wide - wide.sign()), wide)
            middle = self.bn1(self.conv1(inside))
        else:
            narrow = self.down_conv1x1(narrow) if self.changes else narrow
            middle = self.bn1(self.conv1(self.sign(wide))) + narrow
        narrow = F.avg_pool2d(middle, 2) if self.stride == 2 else middle
        narrow = self.bn2(self.conv2(self.sign(middle))) + narrow
        wide = self.downsample(wide) if self.changes else wide
        return narrow, self.bn3(self.conv3(self.sign(narrow))) + wide


class BottleneckNet(nn.Module):
    """Bi-Real Net 50."""

    def __init__(self, width=WIDTH, classes=CLASSES):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layers = nn.ModuleList()
        channels = width
        for stage, count in enumerate((3, 4, 6, 3)):
            narrow = width * 2**stage
            for index in range(count):
                self.layers.append(
                    Bottleneck(
                        channels,
                        narrow,
                        4 * narrow,
                        stride=2 if stage and not index else 1,
                        first=not stage and not index,
                    )
                )
                channels = 4 * narrow
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.max_pool2d(self.bn1(self.conv1(x)), 3, stride=2, padding=1)
        _, x = nn.Sequential(*self.layers)((x, x))
        return self.fc(x.mean((2, 3)))


class Bias(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        return x + self.bias


class FlatBinaryPointwise(nn.Module):
    """1x1; the latent weights are one column."""

    def __init__(self, channels, filters):
        super().__init__()
        self.shape = (filters, channels, 1, 1)
        self.weights = nn.Parameter(torch.empty(filters * channels, 1))

    def forward(self, x):
        return F.conv2d(x, one_bit(self.weights.view(self.shape)))


class SeparableBlock(nn.Module):
    """A 3x3 convolution, and one or two of 1x1, with ReActNet's activations."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.doubles, self.stride, self.sign = filters != channels, stride, Sign()
        self.move11, self.move12, self.move13 = (Bias(channels) for _ in range(3))
        self.binary_3x3 = FlatBinaryConv(channels, channels, stride)
        self.bn1, self.prelu1 = nn.BatchNorm2d(channels), nn.PReLU(channels)
        self.move21, self.move22, self.move23 = Bias(channels), Bias(filters), Bias(filters)
        self.prelu2 = nn.PReLU(filters)
        if self.doubles:
            self.binary_pw_down1 = FlatBinaryPointwise(channels, channels)
            self.binary_pw_down2 = FlatBinaryPointwise(channels, channels)
            self.bn2_1, self.bn2_2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        else:
            self.binary_pw, self.bn2 = (
                FlatBinaryPointwise(channels, filters),
                nn.BatchNorm2d(filters),
            )

    def forward(self, x):
        spatial = self.bn1(self.binary_3x3(self.sign(self.move11(x))))
        x = spatial + (F.avg_pool2d(x, 2) if self.stride == 2 else x)
        x = self.move13(self.prelu1(self.move12(x)))
        signs = self.sign(self.move21(x))
        if self.doubles:
            halves = (
                self.bn2_1(self.binary_pw_down1(signs)) + x,
                self.bn2_2(self.binary_pw_down2(signs)) + x,
            )
            x = torch.cat(halves, dim=1)
        else:
            x = self.bn2(self.binary_pw(signs)) + x
        return self.move23(self.prelu2(self.move22(x)))


class ReActNetA(nn.Module):
    """Liu et al., ECCV 2020: the widths of MobileNetV1."""

    def __init__(self, width=WIDTH, classes=CLASSES):
        super().__init__()
        stem = nn.Module()
        stem.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        stem.bn1 = nn.BatchNorm2d(width)
        self.feature = nn.ModuleList([stem])
        channels = width
        for multiple, stride in zip(
            (2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32), (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        ):
            self.feature.append(SeparableBlock(channels, width * multiple, stride))
            channels = width * multiple
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        stem, *layers = self.feature
        x = nn.Sequential(*layers)(stem.bn1(stem.conv1(x)))
        return self.fc(x.mean((2, 3)))


NETS = {
    "BiRealNet18": functools.partial(BasicNet, (4, 4, 4, 4)),
    "BiRealNet34": functools.partial(BasicNet, (6, 8, 12, 6)),
    "BiRealNet50": BottleneckNet,
    "ReActNetA": ReActNetA,
}


def randomize(net, seed=0):
    """Healthy random weights and statistics, gammas of both signs; in evaluation mode."""
    rng = np.random.default_rng(seed)
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var"):
            values = rng.uniform(0.5, 2, value.shape)
        elif key.endswith(".weight") and value.ndim == 1:
            values = rng.uniform(0.5, 1.5, value.shape) * rng.choice([-1, 1], value.shape)
        elif value.ndim == 1:
            values = rng.normal(size=value.shape)
        else:  # 0.1 does for latent weights in one column: their scale hardly matters
            fan_in = value[0].numel()
            values = rng.normal(size=value.shape) * (0.1 if fan_in == 1 else fan_in**-0.5)
        value.copy_(torch.from_numpy(values))
    return net.eval()


@functools.cache
def theirs(name):
    return randomize(NETS[name]())


def ours(name, size=32, **kwargs):
    arguments = {"width": WIDTH, "num_classes": CLASSES, "padding": "torch"}
    return zoo.create_model(name, **{**arguments, "input_shape": (size, size, 3), **kwargs})


@functools.cache
def shared(name="BiRealNet18"):
    """One model for all tests that leave its weights alone, or set them first."""
    return ours(name)


@pytest.fixture
def state():
    """A state dict of an 18-layer net, to change at will."""
    return {key: value.clone() for key, value in theirs("BiRealNet18").state_dict().items()}


def images(size=32, batch=4, seed=2):
    return np.random.default_rng(seed).normal(size=(batch, size, size, 3)).astype(np.float32)


def log_softmax(net, x):
    with torch.no_grad():
        return F.log_softmax(net(torch.from_numpy(x.transpose(0, 3, 1, 2))), dim=1).numpy()


class TestOutputs:
    # 63: an odd size pads alike everywhere in TensorFlow, and then maps of even size follow.
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("BiRealNet18", 32),
            ("BiRealNet18", 63),
            ("BiRealNet18", 96),
            ("BiRealNet34", 64),
            ("BiRealNet50", 64),
            ("ReActNetA", 32),
        ],
    )
    def test_equal_pytorch_s(self, name, size):
        model = ours(name, size)
        zoo.from_torch(theirs(name).state_dict(), model)
        expected = log_softmax(theirs(name), images(size))
        assert expected.std() > 0.5
        np.testing.assert_allclose(np.log(model(images(size))), expected, atol=1e-4)

    def test_features_without_the_classifier(self):
        net = theirs("BiRealNet18")
        model = ours("BiRealNet18", 64, include_top=False)
        zoo.from_torch(net.state_dict(), model)
        backbone = nn.Sequential(
            net.conv1,
            net.bn1,
            nn.MaxPool2d(3, 2, 1),
            net.layer1,
            net.layer2,
            net.layer3,
            net.layer4,
        )
        with torch.no_grad():
            expected = backbone(torch.from_numpy(images(64).transpose(0, 3, 1, 2))).numpy()
        assert expected.shape == (4, 8 * WIDTH, 2, 2)
        np.testing.assert_allclose(model(images(64)), expected.transpose(0, 2, 3, 1), atol=1e-4)

    @pytest.mark.parametrize("variance", [0.0, 1e-8, 1e-5, 1e-3, 100.0])
    def test_epsilon(self, variance):
        """PyTorch's 1e-5 against 1e-3 here shows where the variance is small."""
        net = randomize(NETS["BiRealNet18"](), seed=3)
        net.bn1.running_var.fill_(variance)
        net.bn1.weight.data.fill_(-0.01)
        zoo.from_torch(net.state_dict(), shared())
        stem = keras.Model(shared().input, shared().get_layer("stem_bn").output)
        with torch.no_grad():
            expected = net.bn1(net.conv1(torch.from_numpy(images().transpose(0, 3, 1, 2)))).numpy()
        np.testing.assert_allclose(
            stem(images()), expected.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5
        )

    @pytest.mark.slow
    def test_converted_and_on_the_runtime(self, tmp_path):
        from bireal_keras import export

        net = theirs("BiRealNet18")
        model = ours("BiRealNet18")
        zoo.from_torch(net.state_dict(), model)
        report = export.convert(model, tmp_path / "model.tflite")
        assert report.binary_convolutions == report.intended_binary_convolutions == 16
        y = runtime.Interpreter(tmp_path / "model.tflite").predict(images())
        np.testing.assert_allclose(y, model(images()), atol=1e-5)
        np.testing.assert_allclose(np.log(y), log_softmax(net, images()), atol=1e-4)


class TestCheckpoints:
    @pytest.fixture
    def expected(self, state):
        zoo.from_torch(state, shared())
        expected = shared().get_weights()
        shared().set_weights([np.zeros_like(w) for w in expected])
        return expected

    @pytest.mark.parametrize("change", ["none", "arrays", "parameters", "data_parallel", "nested"])
    def test_forms(self, change, state, expected):
        checkpoint = {
            "none": lambda: state,
            "arrays": lambda: {key: value.numpy() for key, value in state.items()},
            "parameters": lambda: {**state, "fc.bias": nn.Parameter(state["fc.bias"])},
            "data_parallel": lambda: {f"module.{key}": value for key, value in state.items()},
            "nested": lambda: {"epoch": 255, "state_dict": state, "best_top1_acc": torch.ones(())},
        }[change]()
        zoo.from_torch(checkpoint, shared())
        for a, b in zip(shared().get_weights(), expected, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_file(self, legacy, state, expected, tmp_path):
        path = tmp_path / "checkpoint.pth.tar"
        state = {f"module.{key}": value for key, value in state.items()}
        checkpoint = {"state_dict": state, "optimizer": {"lr": 0.1}}
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
        zoo.from_torch(path, shared())
        for a, b in zip(shared().get_weights(), expected, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_without_step_counters(self, state, expected):
        """PyTorch before 0.4.1 saved none."""
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        zoo.from_torch(state, shared())
        np.testing.assert_array_equal(shared().get_weights()[0], expected[0])


def check_refused(checkpoint, message, model=None):
    """The model keeps its weights."""
    model = model or shared()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message) as error:
        zoo.from_torch(checkpoint, model)
    assert "\n" not in str(error.value)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


class TestMisfits:
    def test_of_another_depth(self, state):
        check_refused(
            theirs("BiRealNet34").state_dict(),
            r"must fit BiRealNet18 with the output shape \(None, 10\)\. "
            r"Received entries unknown: layer1\.4\.binary_conv\.weights, .* and \d+ more\.",
        )
        check_refused(
            state, r"entries missing: layer1\.4\.binary_conv\.weights", shared("BiRealNet34")
        )

    def test_every_kind_is_listed(self, state):
        del state["bn1.bias"], state["layer4.0.downsample.1.weight"]
        state["layer9.weight"] = torch.zeros(3)
        state["fc.weight"] = torch.zeros(1000, 64)
        state["fc.bias"] = torch.zeros(1000)
        state["layer2.0.bn1.running_var"][3] = -1.0
        state["layer2.1.bn1.weight"] = state["layer2.1.bn1.weight"] * np.nan
        check_refused(
            state,
            re.escape(
                "Received entries missing: bn1.bias, layer4.0.downsample.1.weight; "
                "unknown: layer9.weight; "
                "of another shape: fc.weight (1000, 64) instead of (10, 64), "
                "fc.bias (1000,) instead of (10,); "
                "with NaN, infinity or a negative variance: layer2.0.bn1.running_var, "
                "layer2.1.bn1.weight."
            ),
        )

    def test_of_another_width(self):
        net = BasicNet((4, 4, 4, 4), width=4)
        check_refused(net.state_dict(), r"conv1\.weight \(4, 3, 7, 7\) instead of \(8, 3, 7, 7\)")

    def test_for_another_stem(self, state):
        model = ours("BiRealNet18", stem="cifar")
        check_refused(state, r"conv1\.weight \(8, 3, 7, 7\) instead of \(8, 3, 3, 3\)", model)

    @pytest.mark.parametrize("checkpoint", [{}, {"state_dict": {}}, {"epoch": 3}])
    def test_of_nothing(self, checkpoint):
        check_refused(checkpoint, r"missing: conv1\.weight, bn1\.weight, bn1\.bias and \d+ more")

    @pytest.mark.parametrize("checkpoint", [{1: 2}, {"state_dict": [1]}])
    def test_of_something_else(self, checkpoint):
        check_refused(checkpoint, "`checkpoint` must be the path of a file or a mapping from names")

    @pytest.mark.slow
    def test_models_of_other_kinds(self, state):
        model = ours("BiRealNet18", padding="same")
        check_refused(
            state,
            r"`model` must be built with padding='torch'.* \['stem_conv', 'stem_pool', 'stage2",
            model,
        )
        model = ours("BiRealNet18", pad_values=1)
        check_refused(state, r"`model` must be built with pad_values=0.* pad_values=1", model)
        model = zoo.BiRealNet18Float(width=WIDTH, num_classes=CLASSES, input_shape=(32, 32, 3))
        check_refused(state, r"`model` must be one of \['BiReal.*'BiRealNet18Float'", model)
        with pytest.raises(ValueError, match=r"`model` must be one of .*model=None"):
            zoo.from_torch(state, None)


class TestFiles:
    @pytest.mark.parametrize("path", ["none.pth", None, 5])
    def test_no_file(self, path):
        check_refused(path, f"`checkpoint` must be the path .*{path!r}, which is not a file")

    @pytest.mark.parametrize("kept", [0, 10, 0.5])
    def test_damaged(self, kept, tmp_path):
        path = tmp_path / "w.pth"
        torch.save(theirs("BiRealNet18").state_dict(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
        check_refused(path, f"torch.load reads with weights_only=True.*'{path}', which is damaged")

    def test_what_is_pickled_is_not_run(self, tmp_path):
        path = tmp_path / "w.pth"
        torch.save({"state_dict": {}, "trap": Trap(str(tmp_path / "trapped"))}, path)
        check_refused(path, "which is damaged or holds more than tensors")
        assert not (tmp_path / "trapped").exists()
        torch.load(path, weights_only=False)
        assert (tmp_path / "trapped").exists()

    def test_without_pytorch(self, tmp_path, monkeypatch):
        path = tmp_path / "w.pth"
        torch.save({}, path)
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError, match="PyTorch, which is not installed: pip install torch"):
            zoo.from_torch(path, shared())


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)
