"""A checkpoint of larq-zoo's Bi-Real Net is one of ours: `make test-peers`.

Two TensorFlows of different versions round differently, and a value within rounding of zero may
turn its sign; see test_larq_zoo.py. Most images have none.
"""

from pathlib import Path

import numpy as np
import pytest

from bireal_keras import export
from bireal_keras.export.multiplications import multiplications
from bireal_keras.zoo import BiRealNet18

FOLDER = Path(__file__).parents[3] / "_build/peers/models"


@pytest.mark.parametrize("suffix", ["", "_notop"])
def test_the_outputs_agree(suffix):
    model = BiRealNet18(weights=FOLDER / f"BiRealNet{suffix}.h5", include_top=not suffix)
    recording = np.load(FOLDER / f"BiRealNet{suffix}.npz")
    expected = recording["keras_outputs"]
    outputs = model.predict(recording["inputs"], batch_size=1, verbose=0)
    assert outputs.shape == expected.shape
    differences = np.abs(outputs - expected).reshape(len(expected), -1).max(axis=1)
    assert np.median(differences) <= 1e-5 * np.abs(expected).max()


def test_the_exported_weights_are_the_same_bytes(tmp_path):
    path = tmp_path / "ours.tflite"
    export.convert(BiRealNet18(weights=FOLDER / "BiRealNet.h5"), path)
    ours, theirs = (
        [operator.kernel for operator in multiplications(content) if operator.is_binary]
        for content in (path.read_bytes(), (FOLDER / "BiRealNet.tflite").read_bytes())
    )
    assert len(ours) == len(theirs) == 16
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)
