"""Looking inside a file changes nothing that it computes."""

import pickle

import numpy as np
import pytest
from export_helpers import SIZE
from lce_ops import Bconv2d

from bireal_keras.export import probes
from bireal_keras.export.packing import unpack_signs
from bireal_keras.export.samples import random_samples
from bireal_keras.tflite.model import Graph

RUN_ON = {"lce": probes.run_on_lce, "ours": probes.run_on_runtime}


def test_binary_convolutions_of_a_file(small):
    graph = Graph(small.content)
    found = probes.binary_convolutions(graph)
    assert [one.input_shape for one in found] == [(12, 12, 16), (12, 12, 16), (6, 6, 40)]
    assert [one.kernel.shape for one in found] == [(16, 3, 3, 1), (40, 3, 3, 1), (40, 3, 3, 2)]
    for one in found:
        assert one.is_binary
        assert graph.tensors[one.real].shape == (1, *one.input_shape)


def test_signs_that_another_operator_makes_have_no_real_tensor():
    [found] = probes.binary_convolutions(Graph(Bconv2d(1, 5, 7, 40, 6).model()))
    assert found.input_shape == (5, 7, 40)
    assert found.real is None


@pytest.mark.parametrize("kernels", RUN_ON)
def test_inner_tensors(kernels, small):
    """The packed tensor holds the signs of the real one, and the result stays what it is."""
    images = random_samples((SIZE, SIZE, 3), 3)
    graph = Graph(small.content)
    first, *_ = probes.binary_convolutions(graph)
    probed = probes.with_outputs(small.content, [first.signs, first.real, *graph.outputs])
    signs, real, output = RUN_ON[kernels](probed)([images])
    assert real.shape == (3, *first.input_shape)
    np.testing.assert_array_equal(unpack_signs(signs, 16), real < 0)
    assert 0.1 < (real < 0).mean() < 0.9
    [alone] = RUN_ON[kernels](small.content)([images])
    np.testing.assert_array_equal(output, alone)


@pytest.mark.parametrize("kernels", RUN_ON)
def test_images_of_another_process(kernels, small):
    """Pickled arrays have a dtype that is equal to NumPy's, but not the same object."""
    images = random_samples((SIZE, SIZE, 3), 3)
    pickled = pickle.loads(pickle.dumps(images))
    assert pickled.dtype is not images.dtype
    run = RUN_ON[kernels](small.content)
    np.testing.assert_array_equal(run([pickled]), run([images]))


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ("lce", r"does not run on LCE's reference kernel.*LceBconvXX"),
        ("ours", r"does not run on LiteRT: .*LceBconvXX"),
    ],
)
def test_files_that_do_not_run(kernels, message):
    content = Bconv2d(1, 5, 7, 40, 6).model().replace(b"LceBconv2d", b"LceBconvXX")
    with pytest.raises(ValueError, match=message):
        RUN_ON[kernels](content)
