"""A study: what is trained, in which order, and how it is killed and goes on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from bireal_keras import recipes, training
from bireal_keras.training import ablation, data

COMMAND = [sys.executable, "-m", "bireal_keras.commands.ablate"]


RECIPE = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict({
        "model": {"name": "BiRealNet18", "num_classes": 2, "width": 1, "stem": "cifar"},
        "dataset": {"image_size": 8, "augmentation": {"name": "none"}},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "cosine", "warmup_epochs": 0},
        "epochs": 2,
        "batch_size": 64,
        "label_smoothing": 0.0,
        "seed": 7,
    })
"""


# The command dies once the first epoch of a real-valued network has its checkpoint.
KILLED_WHILE_PRETRAINING = """
import os, signal
from bireal_keras.commands import ablate
from bireal_keras.training import checkpoints

save = checkpoints.Checkpoints.save

def save_and_die(self, *arguments):
    save(self, *arguments)
    if "pretrained" in str(self.paths()[-1]):
        os.kill(os.getpid(), signal.SIGKILL)

checkpoints.Checkpoints.save = save_and_die
ablate.run()
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(RECIPE)
    return path


def study(config, folder, *, seeds=(0,), pretrain_epochs=3, report=print, options=None, **choices):
    return ablation.run(
        config,
        ablation.select_cells(**choices),
        seeds=seeds,
        dataset="fake/8/2",
        output_dir=folder,
        pretrain_epochs=pretrain_epochs,
        report=report,
        **(options or {}),
    )


@pytest.mark.proof
def test_is_killed_and_goes_on(recipe, tmp_path):
    folder = tmp_path / "study"
    arguments = [
        f"--config={recipe}",
        "--dataset=fake/8/2",
        f"--output_dir={folder}",
        "--shortcuts=none",
        "--activations=ste_sign",
        "--weight_gradients=plain",
        "--starts=scratch,relu",
        "--pretrain_epochs=3",
    ]
    cell = folder / "cells" / "none-ste_sign-plain-scratch" / "seed0"
    pretrained = folder / "pretrained" / "none-relu" / "seed0"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_PRETRAINING, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    finished = (cell / "metrics.json").stat()
    assert not (pretrained / "metrics.json").exists()
    assert "3 trainings, 7 epochs in all; 7 are left" in killed.stdout
    assert "[2/3] none-relu seed0" in killed.stdout
    assert (folder / "ablation.csv").read_text().count("\n") == 2

    result = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )
    assert result.returncode == 0, result.stderr
    # What was finished is not trained again; of the rest, no epoch twice.
    assert (cell / "metrics.json").stat() == finished
    assert "[1/3]" not in result.stdout
    assert "3 trainings, 7 epochs in all; 4 are left" in result.stdout
    assert re.search(r"none-relu seed0\nfake/8/2: .* parameters\nepoch 2/3", result.stdout)
    assert (pretrained / "log.csv").read_text().count("\n") == 1 + 3
    accuracies = re.findall(r"^\[3/3\] (\S+) seed0: .* ([\d.]+)%$", result.stdout, re.MULTILINE)
    [(name, percent)] = accuracies
    assert name == "none-ste_sign-plain-relu"

    rows = list(csv.DictReader((folder / "ablation.csv").read_text().splitlines()))
    assert [row["start"] for row in rows] == ["scratch", "relu"]
    assert float(rows[1]["mean"]) == pytest.approx(float(percent) / 100, abs=1e-4)
    assert (folder / "ablation.png").stat().st_size > 1000
    config = json.loads((folder / "cells" / name / "seed0" / "config.json").read_text())
    assert config["recipe"]["start"] == str(pretrained / "model.keras")

    config = recipes.load(recipe)
    config.batch_size = 32
    with pytest.raises(ValueError, match=r"started with .*recipe.batch_size=64.*=32"):
        study(config, folder, start=["scratch"])


FAIR = {"equal_budget": True, "learning_rates": [0.02, 0.005], "search_epochs": 4}
ONE_CELL = {"shortcuts": ["none"], "activation": ["ste_sign"], "weight_gradient": ["plain"]}


@pytest.mark.proof
def test_learning_rates_are_chosen_on_images_that_are_held_out(recipe, tmp_path):
    config = recipes.load(recipe)
    options = {"learning_rates": [0.01, 1e-6], "search_epochs": 1}
    [result] = study(config, tmp_path / "study", start=["scratch"], options=options, **ONE_CELL)
    name = "none-ste_sign-plain-scratch"
    held_out = {}
    for rate in ("0.01", "1e-06"):
        folder = tmp_path / "study/search/cells" / name / f"rate{rate}"
        about = json.loads((folder / "config.json").read_text())["dataset"]
        # The fakes are 1,024 images to train with and 128 to validate with.
        assert (about["train_images"], about["validation_images"]) == (922, 102)
        held_out[rate] = json.loads((folder / "metrics.json").read_text())["validation"]["accuracy"]
        assert (folder / "log.csv").read_text().count("\n") == 1 + 1
    folder = tmp_path / "study/cells" / name / "seed0"
    about = json.loads((folder / "config.json").read_text())
    assert about["dataset"]["train_images"] == 1024
    assert about["dataset"]["validation_images"] == 128
    best = max(held_out.values())
    assert held_out[str(about["recipe"]["optimizer"]["learning_rate"])] == best
    assert result.learning_rate == about["recipe"]["optimizer"]["learning_rate"]


class Trainer:
    """Takes the place of `train_and_evaluate`: what it would write, without training.

    Args:
        accuracy: of a run, from its recipe.
    """

    def __init__(self, accuracy=lambda config: 0.5):
        self.folders = []
        self.datasets = []
        self._accuracy = accuracy

    def __call__(self, config, *, dataset, output_dir, callbacks, **options):
        self.folders.append(output_dir)
        self.datasets.append(dataset)
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "config.json").write_text(json.dumps({"recipe": recipes.to_dict(config)}))
        epochs = sum(stage.epochs for stage in recipes.stages(config))
        (output_dir / "log.csv").write_text("epoch\n")
        for epoch in range(epochs):
            with (output_dir / "log.csv").open("a") as log:
                log.write(f"{epoch}\n")
            for callback in callbacks:
                callback.on_epoch_end(epoch, {"seconds": 60.0})
        metrics = {"seed": config.seed, "validation": {"accuracy": self._accuracy(config)}}
        (output_dir / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def train(monkeypatch):
    def install(**options):
        trainer = Trainer(**options)
        monkeypatch.setattr(training, "train_and_evaluate", trainer)
        return trainer

    return install


class TestWhatIsTrained:
    @pytest.fixture
    def config(self, recipe):
        config = recipes.load(recipe)
        config.epochs = 8
        return config

    def test_says_first_what_it_takes_and_soon_how_long(self, config, tmp_path, train):
        train()
        lines = []
        start = ["scratch", "relu"]
        study(
            config,
            tmp_path / "study",
            pretrain_epochs=None,
            report=lines.append,
            options=FAIR,
            start=start,
            **ONE_CELL,
        )
        # A network relu of a quarter, and two cells, of which one has three quarters: 16 epochs
        # for the seed, and 8 for each rate.
        assert lines[:5] == [
            "9 trainings (6 of them to choose learning rates), 32 epochs in all; 32 are left",
            "[1/9] search none-ste_sign-plain-scratch rate0.005",
            "30 epochs are left: about 0 h 30 min",
            "[1/9] search none-ste_sign-plain-scratch rate0.005: held-out accuracy 50.00%",
            "28 epochs are left: about 0 h 28 min",
        ]
        assert lines[-2:] == [
            "[9/9] none-ste_sign-plain-relu seed0: validation accuracy 50.00%",
            "0 epochs are left: about 0 h 00 min",
        ]

    def test_a_finished_study_needs_no_images(self, config, tmp_path, train, monkeypatch):
        train()
        arguments = {"start": ["scratch"], "options": FAIR, **ONE_CELL}
        finished = study(config, tmp_path / "study", pretrain_epochs=1, **arguments)
        monkeypatch.delattr(data, "load")
        again = study(config, tmp_path / "study", pretrain_epochs=1, **arguments)
        assert again == finished

    def test_goes_on_with_what_is_missing(self, config, tmp_path, train):
        arguments = {"start": ["scratch"], "options": FAIR, **ONE_CELL}
        first = train()
        study(config, tmp_path / "study", pretrain_epochs=1, **arguments)
        assert len(first.folders) == 3
        # Loaded once, for several runs.
        assert first.datasets == [first.datasets[0]] * 3
        assert first.datasets[0].name == "fake/8/2"
        second = train()
        study(config, tmp_path / "study", seeds=[0, 1], pretrain_epochs=1, **arguments)
        assert [folder.name for folder in second.folders] == ["seed1"]
        arguments["options"] = {**FAIR, "learning_rates": [0.005, 0.01]}
        with pytest.raises(ValueError, match=r"started with learning_rates=.*0.02\], .*0.01\]"):
            study(config, tmp_path / "study", pretrain_epochs=1, **arguments)

    def test_a_rate_that_diverges_loses_and_is_not_tried_again(self, config, tmp_path, train):
        def accuracy(config):
            if config.optimizer.learning_rate == 0.02:
                raise FloatingPointError("The loss became nan at step 3.")
            return 0.3

        arguments = {"start": ["scratch"], "options": FAIR, **ONE_CELL}
        train(accuracy=accuracy)
        [result] = study(config, tmp_path / "study", **arguments)
        assert result.learning_rate == 0.005
        again = train(accuracy=accuracy)
        study(config, tmp_path / "study", **arguments)
        assert again.folders == []

    def test_a_run_that_diverges_says_which(self, config, tmp_path, train):
        def accuracy(config):
            raise FloatingPointError("The loss became nan at step 3.")

        train(accuracy=accuracy)
        with pytest.raises(FloatingPointError, match="plain-scratch seed0: The loss became nan"):
            study(config, tmp_path / "study", start=["scratch"], **ONE_CELL)


class TestErrors:
    def test_a_recipe_of_something_else(self, recipe, tmp_path):
        config = recipes.load(recipe)
        config.model.name = "BiRealNet34"
        with pytest.raises(ValueError, match=r"must be that of a BiRealNet18.*'BiRealNet34'"):
            study(config, tmp_path / "study")
        config = recipes.load(recipe).unlock()
        config.start = "elsewhere.keras"
        with pytest.raises(ValueError, match="must be without the field `start`"):
            study(config, tmp_path / "study")
        for field, value in (("keep", "best"), ("patience", 3), ("dataset.held_out", 0.1)):
            config = recipes.load(recipe)
            config.update_from_flattened_dict({field: value})
            with pytest.raises(ValueError, match=f"must be without the field `{field}`"):
                study(config, tmp_path / "study")
        assert not (tmp_path / "study").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"equal_budget": True}, "`epochs` must be more than the 9 epochs .* clip .*epochs=2"),
            ({"learning_rates": [0.1]}, r"`learning_rates` must be several .*Received: 0\.1"),
            ({"learning_rates": [0.1, -1]}, "`learning_rates` must be positive .*Received: -1"),
            ({"search_epochs": 3}, "`search_epochs` needs `learning_rates`"),
            (
                {"learning_rates": [0.1, 0.2], "search_epochs": 0},
                "`search_epochs` must be a positive int. Received: 0",
            ),
        ],
    )
    def test_a_budget_or_a_search_that_cannot_be(self, recipe, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            study(recipes.load(recipe), tmp_path / "study", options=options)
        assert not (tmp_path / "study").exists()

    def test_a_folder_with_other_things(self, recipe, tmp_path):
        with pytest.raises(ValueError, match="`output_dir` is not empty"):
            study(recipes.load(recipe), tmp_path)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("--shortcuts=both", "flag --shortcuts=.*: must be some of per_conv,resnet,none"),
            ("--starts=", "flag --starts=.*: must be some of clip,scratch,relu"),
            ("--seeds=0,one", "flag --seeds=.*: must be ints from 0"),
            ("--pretrain_epochs=0", "flag --pretrain_epochs=0: .*"),
            ("--design=none", "flag --design=none: .*factorial\\|claims.*"),
            ("--learning_rates=0.1,high", "flag --learning_rates=.*: must be numbers"),
            ("--config.epoch=2", r".*A recipe has no field `epoch`. Near: epochs"),
            ("extra", "Unexpected argument 'extra': every argument is a --flag"),
        ],
    )
    def test_a_wrong_command_line_is_one_line_and_status_2(self, recipe, argument, message):
        arguments = [f"--config={recipe}", "--dataset=fake/8/2", "--output_dir=study", argument]
        result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(
            rf"bireal-ablate: {message}\.? See bireal-ablate --help\.\n", result.stderr
        )

    def test_the_flags_offer_what_there_is(self):
        result = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
        for choices in ablation.AXES.values():
            assert f"(default: '{','.join(choices)}')" in result.stdout
