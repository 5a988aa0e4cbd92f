"""Records what litert-torch makes of small 1-bit networks, and what PyTorch computes with them.

Usage: record.py FOLDER

Runs in the environment of requirements.txt, with the project's root and tests/helpers in
PYTHONPATH; `make record-torch` does it. FOLDER, tests/export/torch_files, then holds, of networks
in tests/helpers/torch_nets.py for 16x16 images:

- NAME.tflite: litert-torch's float file.
- program.pt2: a program of torch.export.save.
- torch.npz: `inputs`, uint8 (8, 3, 16, 16): the networks get inputs / 64 - 2, as float32; `NAME`,
  float32 (8, 10), PyTorch's results, those of `zero_weights` for weights of 0 that count as +1;
  `versions`, of the libraries.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch_nets as nets

from bireal_keras.export import torch_program

SIZE, CLASSES = 16, 10
LIBRARIES = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")
BLOCKS = {
    "birealnet": nets.BasicBlock,
    "zero_weights": nets.BasicBlock,
    "reactnet": nets.ReActBlock,
    "where": nets.WhereBlock,
}


def build(name: str) -> torch.nn.Module:
    """A network of two blocks, the second of which halves the map."""
    torch.manual_seed(0)
    module = nets.randomized(nets.BiRealNet((1, 1), width=8, classes=CLASSES, block=BLOCKS[name]))
    if name == "zero_weights":
        set_a_weight(module, 0.0)
    return module


def set_a_weight(module: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        module.layer2[0].binary_conv.weights[100] = value


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    inputs = np.random.default_rng(0).integers(0, 256, (8, 3, SIZE, SIZE)).astype(np.uint8)
    values = torch.from_numpy(inputs / np.float32(64) - 2)
    example = (torch.zeros(1, 3, SIZE, SIZE),)
    results = {}
    for name in BLOCKS:
        module = build(name)
        content, _ = torch_program.float_file(module, example, name)
        (folder / f"{name}.tflite").write_bytes(content)
        if name == "zero_weights":
            set_a_weight(module, 1e-30)
        results[name] = module(values).detach().numpy()
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2),
        torch.nn.BatchNorm2d(8),
        nets.BinaryActivation(),
        nets.HardBinaryConv(8, 8, 1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, CLASSES),
    )
    program = torch.export.export(nets.randomized(network), example)
    for node in program.graph.nodes:
        # Of sources on the machine that records.
        node.meta.pop("stack_trace", None)
    torch.export.save(program, folder / "program.pt2")
    versions = [f"{library} {version(library)}" for library in LIBRARIES]
    np.savez(folder / "torch.npz", inputs=inputs, versions=versions, **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
