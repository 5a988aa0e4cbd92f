"""docs/models says what the models are; `make cards` writes it anew."""

import model_cards
import pytest

from bireal_keras import zoo


def test_every_model_has_a_card_and_no_other():
    cards = {path.stem for path in model_cards.FOLDER.glob("*.md")}
    assert cards == {*zoo.list_models(), "README"}


def test_every_model_is_measured():
    assert sorted(model_cards.measurements()["models"]) == zoo.list_models()


def test_everything_measured_is_predicted():
    measured = model_cards.measurements()
    assert {*measured["models"], *measured["others"]} <= model_cards.predictions().keys()


# `make test-zoo` checks the others.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["BiRealNet18", "BiRealNet34Float", "ReActBiRealNet18"])
def test_a_card_is_up_to_date(name):
    card, row = model_cards.describe(name)
    assert (model_cards.FOLDER / f"{name}.md").read_text(encoding="utf-8") == card
    index = (model_cards.FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(row)} |" in index
