"""docs/photos.ipynb, as a reader runs it, on small photos and for two epochs."""

import json

import pytest
from PIL import Image

PARAMETERS = "parameters"


@pytest.fixture
def cells(repository):
    """(source, tags) of each cell with code."""
    notebook = json.loads((repository / "docs/photos.ipynb").read_text("utf-8"))
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_it_is_stored_without_results(repository):
    notebook = json.loads((repository / "docs/photos.ipynb").read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.proof
def test_it_trains_looks_exports_and_runs(cells, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    namespace = {}
    for source, tags in cells:
        exec(compile(source, "photos.ipynb", "exec"), namespace)
        if PARAMETERS in tags:
            namespace["EPOCHS"] = 2
    assert namespace["metrics"]["epochs"] == 2
    for name in ("curve.png", "confusion.png"):
        Image.open(tmp_path / "runs/photos" / name).load()
    assert namespace["report"].binary_convolutions == 16
    assert {guess.label for guess in namespace["guesses"]} == {"red", "green", "blue"}
    assert "starts with the weights of BiRealNet18:cifar10" in capsys.readouterr().out
