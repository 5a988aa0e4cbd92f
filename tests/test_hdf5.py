"""HDF5 files from anywhere: nothing but the file itself is read, and not more than it holds."""

import zipfile

import h5py
import numpy as np
import pytest

from bireal_keras import _hdf5
from bireal_keras._keras import keras
from bireal_keras._safe_load import load_model
from bireal_keras.zoo import _model

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")

SECRET = b"PRIVATE KEY " * 100


def build(weights=None):
    """As the functions of the zoo do, and small."""
    x = keras.Input((4,))
    y = keras.layers.Dense(10)(keras.layers.BatchNormalization()(x))
    model = keras.Model(x, y, name="Small")
    if weights is not None:
        _model.load_weights(model, weights)
    return model


def datasets(file):
    found = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def bias(file):
    """The array of ten numbers."""
    return next(item.name for item in datasets(file) if item.shape == (10,))


def external_storage(file, folder):
    name = bias(file)
    del file[name]
    file.create_dataset(name, (10,), "f4", external=[(str(folder / "secret.txt"), 0, 40)])


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones(10, np.float32)
    name = bias(file)
    del file[name]
    file[name] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def group_elsewhere(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["group/x"] = np.ones(10, np.float32)
    file["elsewhere"] = h5py.ExternalLink(str(folder / "other.h5"), "group")


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones(10, np.float32)
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (10,))
    name = bias(file)
    del file[name]
    file.create_virtual_dataset(name, layout)


def soft_link(file, folder):
    file["loop"] = h5py.SoftLink("/")


def second_name(file, folder):
    file["again"] = file[bias(file)]


def circle(file, folder):
    file.create_group("a")["b"] = file["/"]


def texts(file, folder):
    file["texts"] = ["a text"]


def references(file, folder):
    file.create_dataset("references", (1,), h5py.ref_dtype)


def zeros(file, folder):
    """200 MB in 200 KB."""
    file.create_dataset("zeros", (50_000_000,), "f4", compression="gzip", fillvalue=0)[:] = 0


def promised(file, folder):
    """Nothing is stored of an array that was never written."""
    file.create_dataset("promised", (10**10, 10**3), "f4", chunks=(1000, 1000))


def large_chunk(file, folder):
    file.create_dataset("chunk", (1,), "f4", maxshape=(None,), chunks=(10**9,))


TRICKS = {
    external_storage: "lies in another file",
    external_link: r"refers to another file, .*other\.h5",
    group_elsewhere: r"refers to another file, .*other\.h5",
    virtual: "lies in another file",
    soft_link: "is a link",
    second_name: "has a second name",
    circle: "has a second name",
    texts: "not numbers",
    references: "not numbers",
    zeros: r"arrays of 20\d,\d{3},\d{3} bytes; a file of",
    promised: r"arrays of 40,000,\d{3},\d{3},\d{3} bytes",
    large_chunk: r"arrays of 4,00\d,\d{3},\d{3} bytes",
}


def save_weights(model, folder):
    model.save_weights(folder / "weights.h5")
    return folder / "weights.h5"


def save_new_weights(model, folder):
    model.save_weights(folder / "new.weights.h5")
    return folder / "new.weights.h5"


def save(suffix):
    def save_model(model, folder):
        model.save(folder / f"model{suffix}")
        return folder / f"model{suffix}"

    return save_model


READERS = {
    "weights of .h5": (save_weights, build),
    "weights of .weights.h5": (save_new_weights, build),
    "weights of a model in .h5": (save(".h5"), build),
    "weights of .keras": (save(".keras"), build),
    "a model in .h5": (save(".h5"), load_model),
    "a model in .keras": (save(".keras"), load_model),
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = build()
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1, weight.shape) for weight in model.weights])
    return model


def change(path, trick, folder):
    """Does something to the HDF5 file, or to that in a .keras file."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            trick(file, folder)
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    inner = folder / "inner.h5"
    inner.write_bytes(parts["model.weights.h5"])
    change(inner, trick, folder)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"model.weights.h5": inner.read_bytes()}).items():
            archive.writestr(name, content)


@pytest.mark.parametrize("reader", READERS)
def test_what_keras_saved_is_read(model, reader, tmp_path):
    write, read = READERS[reader]
    for expected, weight in zip(model.weights, read(write(model, tmp_path)).weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
@pytest.mark.parametrize("reader", READERS)
def test_other_files_and_much_memory(model, reader, trick, tmp_path):
    (tmp_path / "secret.txt").write_bytes(SECRET)
    write, read = READERS[reader]
    path = write(model, tmp_path)
    change(path, trick, tmp_path)
    with pytest.raises(ValueError, match=TRICKS[trick]) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_one_array_under_many_names(tmp_path):
    """In Keras's own list of what to load."""
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layer/kernel"] = np.ones(1_000_000, np.float32)
        file["layer"].attrs["weight_names"] = ["kernel"] * 1000
        file.attrs["layer_names"] = ["layer"]
    with h5py.File(tmp_path / "weights.h5") as file:
        assert _hdf5.checked_bytes(file, 2**30) == 4_000_000_000
        with pytest.raises(ValueError, match="arrays of 4,000,000,000 bytes"):
            _hdf5.checked_bytes(file, (tmp_path / "weights.h5").stat().st_size)


@pytest.mark.slow
def test_a_long_list_of_names(tmp_path):
    """Keras splits it, as an attribute takes 64 KB at most."""
    layers = [keras.layers.Dense(1, name=f"layer{index}" + 100 * "x") for index in range(700)]
    x = y = keras.Input((1,))
    for layer in layers:
        y = layer(y)
    keras.Model(x, y).save_weights(tmp_path / "weights.h5")
    with h5py.File(tmp_path / "weights.h5") as file:
        assert "layer_names" not in file.attrs
        assert _hdf5._named_bytes(file) == 700 * 2 * 4
