"""The trainings of a study: their order, their lengths, what they start from, their rates."""

import json
from pathlib import Path

import pytest

from bireal_keras import recipes
from bireal_keras.training import ablation
from bireal_keras.training.ablation.lengths import Lengths
from bireal_keras.training.ablation.plan import Plan

FOLDER = Path("/study")


def make_plan(cells, *, seeds=(3, 4), rates=(0.01,), lengths, search_lengths=None, folder=FOLDER):
    config = recipes.load("cifar10")
    return Plan(folder, config, cells, seeds, rates, lengths, search_lengths or lengths)


def steps(plan, path):
    """[(activation, shortcuts, epochs, seed)] of all that a run builds on, and its own."""
    runs = {run.folder: run for run in plan.runs()}
    config = plan.recipe_of(runs[path])
    recipes.check(config)
    stages = recipes.stages(config)
    own = [
        (stage.model.activation, stage.model.shortcuts, stage.epochs, stage.seed)
        for stage in stages
    ]
    assert sum(stage.epochs for stage in stages) == runs[path].epochs
    if stages[0].start == "scratch":
        return own
    before = Path(stages[0].start).parent
    assert list(runs).index(before) < list(runs).index(path)
    return steps(plan, before) + own


def test_pretrains_in_the_papers_order_and_shares():
    cells = ablation.select_cells(shortcuts=["per_conv", "none"])
    plan = make_plan(cells, lengths=Lengths(2, 5, is_equal=False))
    runs = plan.runs()
    assert len(runs) == len({run.folder for run in runs}) == 2 * (24 + 2 * 2)
    assert steps(plan, FOLDER / "cells/none-ste_sign-plain-clip/seed4") == [
        ("relu", "none", 5, 4),
        ("leaky_clip", "none", 5, 4),
        ("clip", "none", 5, 4),
        ("ste_sign", "none", 2, 4),
    ]
    assert steps(plan, FOLDER / "cells/per_conv-approx_sign-plain-relu/seed3") == [
        ("relu", "per_conv", 5, 3),
        ("approx_sign", "per_conv", 2, 3),
    ]
    assert steps(plan, FOLDER / "cells/none-approx_sign-plain-scratch/seed3") == [
        ("approx_sign", "none", 2, 3)
    ]


def test_with_an_equal_budget_every_cell_has_as_many_epochs_in_all():
    cells = ablation.select_cells("claims")
    plan = make_plan(cells, seeds=[0], lengths=Lengths(9, 2, is_equal=True))
    for cell in cells:
        taken = steps(plan, FOLDER / "cells" / str(cell) / "seed0")
        assert sum(epochs for _, _, epochs, _ in taken) == 9
    # The same epochs of pre-training count for both cells that start from there.
    assert sum(run.epochs for run in plan.runs()) == 9 * 9 - 2


class TestSearch:
    LENGTHS = Lengths(8, 2, is_equal=True)

    def plan(self, folder):
        return make_plan(
            ablation.select_cells("claims", start=["clip", "scratch"]),
            rates=(0.001, 0.01),
            lengths=self.LENGTHS,
            search_lengths=self.LENGTHS.scaled(4),
            folder=folder,
        )

    def finish(self, run, accuracy):
        run.folder.mkdir(parents=True)
        metrics = {"validation": {"accuracy": accuracy}}
        (run.folder / "metrics.json").write_text(json.dumps(metrics))

    def finish_search(self, plan, best):
        """`best` is the rate that wins, by a network's path; of the others it is 0.001."""
        for run in plan.runs():
            if run.searched_rate is not None:
                wins = run.searched_rate == best.get(run.network.path, 0.001)
                self.finish(run, 0.6 if wins else 0.5)

    def test_comes_first_and_holds_images_out(self, tmp_path):
        runs = self.plan(tmp_path).runs()
        plan = self.plan(tmp_path)
        searches = [run for run in runs if run.searched_rate is not None]
        # 8 cells, relu and clip, with two rates and then with two seeds.
        assert (len(searches), len(runs)) == (20, 40)
        assert runs[:20] == searches
        for run in runs:
            config = plan.unchosen_recipe_of(run, 0.5)
            is_search = run.searched_rate is not None
            assert config.dataset.held_out == (0.1 if is_search else 0.0)
            assert config.seed == (plan.config.seed if is_search else run.seed)

    def test_is_shorter_in_proportion(self, tmp_path):
        plan = self.plan(tmp_path)
        self.finish_search(plan, {})
        cell = "cells/per_conv-approx_sign-magnitude_aware-clip"
        taken = steps(plan, tmp_path / "search" / cell / "rate0.01")
        assert [(activation, epochs) for activation, _, epochs, _ in taken] == [
            ("relu", 1),
            ("leaky_clip", 1),
            ("clip", 1),
            ("approx_sign", 1),
        ]

    def test_the_best_rate_trains_and_the_best_network_is_the_start(self, tmp_path):
        plan = self.plan(tmp_path)
        relu, clip = "pretrained/per_conv-relu", "pretrained/per_conv-clip"
        cell = "cells/per_conv-approx_sign-magnitude_aware-clip"
        self.finish_search(plan, {relu: 0.01, cell: 0.01})
        runs = {run.folder: run for run in plan.runs()}

        def rate_and_start(path):
            config = plan.recipe_of(runs[tmp_path / path])
            return config.optimizer.learning_rate, config.start

        search = tmp_path / "search"
        assert rate_and_start(f"search/{clip}/rate0.001") == (
            0.001,
            str(search / relu / "rate0.01/model.keras"),
        )
        assert rate_and_start(f"search/{cell}/rate0.001") == (
            0.001,
            str(search / clip / "rate0.001/model.keras"),
        )
        # Those that are trained with all images start from such ones, of their own seed.
        assert rate_and_start(f"{relu}/seed4") == (0.01, "scratch")
        assert rate_and_start(f"{clip}/seed4") == (
            0.001,
            str(tmp_path / relu / "seed4/model.keras"),
        )
        assert rate_and_start(f"{cell}/seed4") == (
            0.01,
            str(tmp_path / clip / "seed4/model.keras"),
        )

    def test_a_rate_with_which_the_loss_diverged_is_not_the_best(self, tmp_path):
        plan = self.plan(tmp_path)
        network = "cells/none-ste_sign-magnitude_aware-scratch"
        low, high = (
            run
            for run in plan.runs()
            if run.network.path == network and run.searched_rate is not None
        )
        trained = next(run for run in plan.runs() if run.folder == tmp_path / network / "seed3")
        self.finish(low, 0.1)
        high.folder.mkdir(parents=True)
        (high.folder / "diverged.txt").write_text("The loss became nan at step 3.\n")
        assert high.is_finished
        assert (high.epochs_left(), high.outcome()) == (0, "the loss diverged")
        assert plan.recipe_of(trained).optimizer.learning_rate == 0.001

        (low.folder / "metrics.json").rename(low.folder / "diverged.txt")
        message = r"none-ste_sign-.*: the loss became .* each of the learning rates 0.001, 0.01"
        with pytest.raises(FloatingPointError, match=message):
            plan.recipe_of(trained)
