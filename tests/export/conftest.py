"""One model, converted once, for the tests that look at the result."""

from types import SimpleNamespace

import pytest
from export_helpers import CENTER_CROP, CLASSES, birealnet, build


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A small Bi-Real Net: .model, .labels, the .report of its conversion and its .content."""
    pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")
    from bireal_keras.export import convert

    path = tmp_path_factory.mktemp("export") / "small.tflite"
    model = build(birealnet)
    labels = [f"class {index}" for index in range(CLASSES)]
    report = convert(model, path, labels=labels, center_crop=CENTER_CROP)
    return SimpleNamespace(
        model=model, labels=labels, path=path, report=report, content=path.read_bytes()
    )
