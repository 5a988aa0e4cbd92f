"""Packs the weights of a trained model into a small file that `model.load_weights` reads.

    python tools/pack_weights.py runs/cifar10/model.keras zoo/weights/birealnet18_cifar10.h5

The kernels of 1-bit convolutions become their signs, BatchNorm absorbs their scales, exactly
(`batch_norm.absorb_scale`), and the arrays are compressed: a sign takes about one bit. The real
weights that training kept beside the signs are lost. The same model gives the same bytes.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import h5py

from bireal_keras import batch_norm
from bireal_keras._keras import keras
from bireal_keras.commands import _cli


def pack(model: keras.Model, path: Path) -> None:
    """Writes the file; `model` has +-1 for kernels afterwards."""
    batch_norm.absorb_scale(model)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "weights.h5"
        model.save_weights(plain)
        with h5py.File(plain) as source, h5py.File(path, "w") as packed:
            packed.attrs.update(source.attrs)

            def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
                if isinstance(item, h5py.Group):
                    packed.create_group(name).attrs.update(item.attrs)
                else:
                    # Bytes of one rank lie together: three of a sign's four are always the same.
                    packed.create_dataset(
                        name, data=item[()], compression="gzip", compression_opts=9, shuffle=True
                    )

            source.visititems(copy)


def main(args: list[str]) -> None:
    if len(args) != 2:
        raise ValueError("takes the path of a Keras model and that of the file to write.")
    import bireal_keras.zoo  # noqa: F401  Registers the model's layers.

    path = Path(args[1])
    pack(keras.models.load_model(args[0], compile=False), path)
    content = path.read_bytes()
    print(f"{path}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    sys.exit(_cli.run("pack_weights", main, module="__main__", doc=__doc__))
