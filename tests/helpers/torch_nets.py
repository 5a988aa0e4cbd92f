"""1-bit networks as people write them in PyTorch.

`BiRealNet18` has the arithmetic and the state dict of the code that Bi-Real Net's authors published
(https://github.com/liuzechun/Bi-Real-net, pytorch_implementation/BiReal18_34), and is written from
the paper's formulas: torch.sign for activations and weights, straight-through estimators that add
and take away what has the gradient, latent weights in one column.
"""

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = (4, 4, 4, 4)


class BinaryActivation(nn.Module):
    """sign(x), with the gradient 2 - 2|x| of the piecewise polynomial (section 3.3)."""

    def forward(self, x):
        outside, negative, inside = (x < -1).float(), (x < 0).float(), (x < 1).float()
        left = (2 * x + x * x) * (1 - outside) - outside
        right = (2 * x - x * x) * inside + (1 - inside)
        smooth = left * negative + right * (1 - negative)
        return torch.sign(x).detach() - smooth.detach() + smooth


class HardBinaryConv(nn.Module):
    """A 3x3 convolution with sign(w) times the mean magnitude of each filter."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.stride, self.shape = stride, (filters, channels, 3, 3)
        self.weights = nn.Parameter(torch.rand((filters * channels * 9, 1)) * 0.002 - 0.001)

    def forward(self, x):
        latent = self.weights.view(self.shape)
        magnitudes = latent.abs().mean((1, 2, 3), keepdim=True).detach()
        clipped = latent.clamp(-1, 1)
        binary = (magnitudes * torch.sign(latent)).detach() - clipped.detach() + clipped
        return F.conv2d(x, binary, stride=self.stride, padding=1)


class BasicBlock(nn.Module):
    """A 1-bit convolution with a shortcut around it."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.binary_activation = BinaryActivation()
        self.binary_conv = HardBinaryConv(channels, filters, stride)
        self.bn1 = nn.BatchNorm2d(filters)
        self.downsample = shortcut(channels, filters, stride)

    def forward(self, x):
        return self.bn1(self.binary_conv(self.binary_activation(x))) + self.downsample(x)


def shortcut(channels, filters, stride):
    """What is added; where the map shrinks, average-pooled, with a real 1x1 convolution."""
    if stride == 1 and channels == filters:
        return nn.Identity()
    return nn.Sequential(
        nn.AvgPool2d(kernel_size=2, stride=stride),
        nn.Conv2d(channels, filters, 1, bias=False),
        nn.BatchNorm2d(filters),
    )


class BiRealNet(nn.Module):
    """The network of the paper.

    Args:
        blocks: in each stage.
        width: channels of the first stage; the following ones double them.
        classes: how many there are.
        block: a block's class, of (channels, filters, stride).
    """

    def __init__(self, blocks=BLOCKS, width=64, classes=1000, block=BasicBlock):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = [f"layer{stage + 1}" for stage in range(len(blocks))]
        channels = width
        for stage, count in enumerate(blocks):
            filters, layers = width * 2**stage, []
            for index in range(count):
                layers.append(block(channels, filters, 2 if stage and index == 0 else 1))
                channels = filters
            self.add_module(self.stages[stage], nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def birealnet18(num_classes=1000):
    """As the authors' function of this name."""
    return BiRealNet(classes=num_classes)


class ChannelShift(nn.Module):
    """A learnable number for each channel that is added."""

    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        return x + self.bias.expand_as(x)


class ReActBlock(nn.Module):
    """ReActNet's activations (arXiv:2003.03488): RSign before the convolution, RPReLU after."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.shift = ChannelShift(channels)
        self.conv = HardBinaryConv(channels, filters, stride)
        self.bn = nn.BatchNorm2d(filters)
        self.downsample = shortcut(channels, filters, stride)
        self.before, self.after = ChannelShift(filters), ChannelShift(filters)
        self.prelu = nn.PReLU(filters)

    def forward(self, x):
        signs = (self.shift(x) >= 0).float() * 2 - 1
        y = self.bn(self.conv(signs)) + self.downsample(x)
        return self.after(self.prelu(self.before(y)))


class WhereBlock(BasicBlock):
    """The sign is written as torch.where."""

    def forward(self, x):
        signs = torch.where(x >= 0, 1.0, -1.0)
        return self.bn1(self.binary_conv(signs)) + self.downsample(x)


def randomized(module, seed=0):
    """Gives a module weights and statistics as of a trained one, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        return tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                uniform(part.weight, 0.5, 1.5)
                # A fifth of them is negative.
                part.weight.mul_(uniform(torch.empty_like(part.weight), -0.2, 0.8).sign())
                uniform(part.bias, -0.5, 0.5)
                uniform(part.running_mean, -0.5, 0.5)
                uniform(part.running_var, 0.5, 1.5)
            elif isinstance(part, HardBinaryConv):
                uniform(part.weights, -1.5, 1.5)
                part.weights.div_(part.shape[1])
            elif isinstance(part, ChannelShift):
                uniform(part.bias, -0.3, 0.3)
            elif isinstance(part, nn.PReLU):
                uniform(part.weight, 0.1, 0.4)
    return module.eval()
