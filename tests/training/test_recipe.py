"""The recipes that come with the package, and what is said about one that is wrong."""

import inspect
import re

import ml_collections
import numpy as np
import pytest

from bireal_keras import recipes, zoo
from bireal_keras.recipes import cifar10_staged
from bireal_keras.training import optimizers, preprocessing, recipe


@pytest.fixture
def config():
    """A recipe that may be changed."""
    return recipes.load("mnist_5k").unlock()


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_is_right(name):
    config = recipes.load(name)
    recipes.check(config)
    assert config.is_locked
    preprocessing.create_augmentation(
        **config.dataset.augmentation, image_size=config.dataset.image_size
    )
    for stage in recipes.stages(config):
        optimizers.create_optimizer(stage, steps_per_epoch=10)
        # This is what the model's function makes of its arguments, without the seconds to build it.
        arguments = {**stage.model, "input_shape": (stage.dataset.image_size,) * 2 + (3,)}
        model = getattr(zoo, arguments.pop("name"))
        inspect.signature(model).bind(**arguments)


def test_the_authors_recipe_is_theirs():
    config = recipes.load("imagenet_pytorch_18")
    rate = optimizers.create_optimizer(config, steps_per_epoch=2502)._learning_rate
    # train.py: lr = 0.001 * (1 - (epoch + 1) / 256), batch size 512.
    for epoch in (0, 100, 255):
        for step in (0, 2501):
            assert float(rate(epoch * 2502 + step)) == pytest.approx(
                0.001 * (1 - (epoch + 1) / 256), abs=1e-9
            )
    assert (config.epochs, config.batch_size, config.label_smoothing) == (256, 512, 0.1)


def rates(stage, steps_per_epoch=10):
    """The learning rate of each epoch's first step."""
    rate = optimizers.create_optimizer(stage, steps_per_epoch)._learning_rate
    return [float(rate(epoch * steps_per_epoch)) for epoch in range(stage.epochs)]


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("imagenet_caffe_18", [0.01] * 10 + [0.001] * 5 + [0.0001] * 5),
        ("imagenet_caffe_34", [0.08] * 20 + [0.008] * 10 + [0.0008] * 10),
    ],
)
def test_the_papers_recipe_is_its_four_stages(name, last):
    config = recipes.load(name)
    *real, one_bit = recipes.stages(config)
    assert [stage.model.activation for stage in real] == ["relu", "leaky_clip", "clip"]
    assert rates(real[0]) == pytest.approx([0.1] * 30 + [0.01] * 30 + [0.001] * 30)
    assert {stage.model.name for stage in real} == {f"{one_bit.model.name}Float"}
    assert [stage.optimizer.l2 for stage in real] == [1e-4] * 3
    assert [stage.start for stage in (*real, one_bit)] == ["scratch"] + ["previous"] * 3
    assert rates(one_bit) == pytest.approx(last)
    assert "l2" not in one_bit.optimizer
    assert one_bit.optimizer.momentum == 0.9
    assert config.reestimate_epochs == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch_size", "rate"),
    [("imagenet_react_18", 512, 2.5e-3), ("imagenet_reactnet_a", 256, 1.25e-3)],
)
def test_reactnets_recipe_is_its_two_stages_after_a_teacher(name, batch_size, rate):
    teacher, activations, weights = recipes.stages(recipes.load(name))
    assert (teacher.model.name, teacher.model.width) == ("BiRealNet34Float", 64)
    assert (activations.binary_weights, weights.binary_weights) == (False, True)
    assert (activations.start, weights.start) == ("scratch", "previous")
    assert activations.optimizer.to_dict() == {**weights.optimizer.to_dict(), "l2": 1e-5}
    for stage in (activations, weights):
        assert stage.distillation.to_dict() == {"teacher": teacher.name, "weight": 1.0}
        assert (stage.epochs, stage.batch_size) == (128, batch_size)
        assert rates(stage)[0] == pytest.approx(rate * (1 - 1 / 128))


def test_quicknets_recipe_warms_up_and_falls_as_a_cosine():
    """Larq Zoo's: from 0 to 0.01 in 5 of 600 epochs, then half a cosine down to 0."""
    [stage] = recipes.stages(recipes.load("imagenet_quicknet"))
    assert (stage.model.name, stage.epochs, stage.batch_size) == ("QuickNet", 600, 2048)
    by_epoch = rates(stage)
    np.testing.assert_allclose(by_epoch[:6], 1e-2 * np.arange(6) / 5, rtol=1e-3, atol=1e-6)
    cosine = (1 + np.cos(np.pi * np.arange(595) / 595)) / 2
    np.testing.assert_allclose(by_epoch[5:], 1e-2 * cosine, rtol=1e-3, atol=1e-6)


def staged(*stages, **fields):
    config = recipes.load("mnist_5k").unlock()
    config.stages = tuple(map(ml_collections.ConfigDict, stages))
    del config.epochs
    config.epochs = ml_collections.config_dict.placeholder(int)
    for field, value in fields.items():
        config[field] = value
    return config


def test_a_stage_adds_to_the_common_fields_or_replaces_what_has_another_name():
    config = staged(
        {"name": "a", "epochs": 2, "optimizer": {"learning_rate": 0.5}, "model": {"width": 8}},
        {"name": "b", "epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 1.0}},
        {"name": "c", "epochs": 4, "model": {"name": "BiRealNet18Float"}, "batch_size": 7},
    )
    a, b, c = recipes.stages(config)
    assert a.optimizer.to_dict() == {"name": "adam", "learning_rate": 0.5, "l2": 0.0}
    assert a.model.to_dict() == {**config.model.to_dict(), "width": 8}
    assert b.optimizer.to_dict() == {"name": "sgd", "learning_rate": 1.0}
    assert b.model.to_dict() == config.model.to_dict()
    assert c.model.to_dict() == {**config.model.to_dict(), "name": "BiRealNet18Float"}
    assert (b.batch_size, c.batch_size) == (64, 7)
    assert [stage.epochs for stage in (a, b, c)] == [2, 3, 4]
    assert a.schedule.to_dict() == config.schedule.to_dict()


@pytest.mark.parametrize(
    ("parts", "total", "expected"),
    [
        ((90, 10, 10, 20), 130, [90, 10, 10, 20]),
        ((90, 10, 10, 20), 13, [9, 1, 1, 2]),
        ((90, 10, 10, 20), 4, [1, 1, 1, 1]),
        ((90, 10, 10, 20), 260, [180, 20, 20, 40]),
        ((1, 1, 1), 4, [2, 1, 1]),
        ((1, 100), 10, [1, 9]),
    ],
)
def test_the_epochs_of_the_run_are_shared_between_its_stages(parts, total, expected):
    stages = [{"name": f"s{i}", "epochs": part} for i, part in enumerate(parts)]
    config = staged(*stages, epochs=total)
    recipes.check(config)
    assert [stage.epochs for stage in recipes.stages(config)] == expected


def test_a_recipe_without_stages_is_one():
    config = recipes.load("mnist_5k")
    (stage,) = recipes.stages(config)
    assert stage.start == "scratch"
    assert config.start is None
    for field, value in config.items():
        assert field == "start" or stage[field] == value


@pytest.mark.parametrize(
    ("stages", "fields", "message"),
    [
        ([], {}, "`stages` must be a tuple of at least one stage"),
        ([{"name": "a", "epochs": 0}], {}, r"`stages\[0\].epochs` must be a positive int"),
        ([{"name": "a"}], {}, r"lacks the field `stages\[0\].epochs`"),
        ([{"epochs": 1}], {}, r"`stages\[0\].name` must be made of letters.*Received: None"),
        ([{"name": "../a", "epochs": 1}], {}, r"`stages\[0\].name` must be made of letters"),
        ([{"name": "a", "epochs": 1}] * 2, {}, r"`stages\[1\].name` is taken: 'a'"),
        ([{"name": "scratch", "epochs": 1}], {}, r"`stages\[0\].name` is taken"),
        (
            [{"name": "a", "epoch": 1}],
            {},
            r"no field `stages\[0\].epoch`. Near: stages\[0\].epochs",
        ),
        ([{"name": "a", "epochs": 1, "seed": 1}], {}, r"no field `stages\[0\].seed`"),
        (
            [{"name": "a", "epochs": 1, "optimizer": {"learning_rate": 0}}],
            {},
            r"`stages\[0\].optimizer.learning_rate` must be a positive number",
        ),
        (
            [{"name": "a", "epochs": 1, "distillation": {"weight": 0.5}}],
            {},
            r"lacks the field `stages\[0\].distillation.teacher`",
        ),
        (
            [{"name": "a", "epochs": 1, "distillation": {"teacher": "t", "weight": 2}}],
            {},
            r"`stages\[0\].distillation.weight` must be a number in \(0, 1\]",
        ),
        ([{"name": "a", "epochs": 1, "start": 1}], {}, r"`stages\[0\].start` must be 'scratch'"),
        ([{"name": "a", "epochs": 1, "binary_weights": 0}], {}, "`.*binary_weights` must be True"),
        ([{"name": "a", "epochs": 1, "precision": "half"}], {}, r"precision` must be one of .*_bf"),
        ([{"name": n, "epochs": 1} for n in "abc"], {"epochs": 2}, "`epochs` .* at least 3"),
        ([{"name": "a", "epochs": 1}], {"reestimate_epochs": -1}, "`.*reestimate_epochs` must be"),
        ([{"name": "a", "epochs": 1, "keep": "worst"}], {}, r"keep` must be one of .*'best'"),
        ([{"name": "a", "epochs": 1, "freeze": "all"}], {}, r"freeze` must be one of .*'stem'"),
        ([{"name": "a", "epochs": 1, "mixup": -1}], {}, r"mixup` must be a number from 0"),
        ([{"name": "a", "epochs": 1, "balance": 1}], {}, r"balance` must be True or False"),
        ([{"name": "a", "epochs": 1, "patience": -1}], {}, r"patience` must be an int from 0"),
    ],
)
def test_says_which_field_of_a_stage_is_wrong(stages, fields, message):
    with pytest.raises(ValueError, match=message):
        recipes.check(staged(*stages, **fields))


DEFAULTS = {
    "dataset.center_crop": 1.0,
    "dataset.held_out": 0.0,
    "optimizer.l2": 0.0,
    "binary_weights": True,
    "start": None,
    "precision": "float32",
    "distillation.teacher": None,
    "distillation.weight": 1.0,
    "freeze": "nothing",
    "balance": False,
    "mixup": 0.0,
    "keep": "last",
    "patience": 0,
    "reestimate_epochs": 0,
}


def value_of(config, name):
    for key in name.split("."):
        config = config[key]
    return config


def test_fields_that_a_recipe_leaves_out_have_their_defaults():
    config = recipes.load("mnist_5k")
    assert {name: value_of(config, name) for name in DEFAULTS} == DEFAULTS
    recipes.check(config)
    # They are there to be set, and have a type.
    config.dataset.center_crop = 0.875
    config.start = "model.keras"
    config.distillation.teacher = "teacher.keras"
    with pytest.raises(TypeError):
        config.keep = 1
    recipes.check(config)
    (stage,) = recipes.stages(config)
    assert (stage.dataset.center_crop, stage.start) == (0.875, "model.keras")


def test_what_a_recipe_says_is_no_default():
    assert recipes.load("imagenet_pytorch_18").dataset.center_crop == 224 / 256
    assert recipes.load("imagenet_caffe_18").reestimate_epochs == 1
    activations = recipes.stages(recipes.load("imagenet_react_18"))[1]
    assert (activations.binary_weights, activations.optimizer.l2) == (False, 1e-5)


def test_the_number_of_classes_may_be_left_to_the_dataset():
    config = recipes.load("finetune")
    assert config.model.num_classes is None
    recipes.check(config)


def test_a_run_of_several_stages_starts_where_the_recipe_says():
    config = recipes.load("cifar10_staged")
    config.start = "runs/before"
    assert [stage.start for stage in recipes.stages(config)] == [
        "runs/before",
        "previous",
        "previous",
    ]


def test_a_default_is_no_stage_s_own():
    """Neither does the common `start` replace the stage before, nor None what is common."""
    config = recipes.load("cifar10_staged")
    recipe.make_settable(config, "stages[2].batch_size")
    recipe.make_settable(config, "stages[2].optimizer.learning_rate")
    recipes.check(config)
    relu, _, one_bit = recipes.stages(config)
    assert (relu.start, one_bit.start) == ("scratch", "previous")
    assert (one_bit.batch_size, one_bit.optimizer.learning_rate) == (128, 2e-3)
    config.stages[2].batch_size = 64
    config.stages[2].optimizer.learning_rate = 1e-3
    relu, _, one_bit = recipes.stages(config)
    assert (relu.batch_size, relu.optimizer.learning_rate) == (128, 2e-3)
    assert (one_bit.batch_size, one_bit.optimizer.learning_rate) == (64, 1e-3)
    assert one_bit.optimizer.name == "adam"


def test_a_number_that_need_not_be_whole_is_none(tmp_path):
    """So that 0.5 can be set on the command line where a recipe says 0."""
    path = tmp_path / "mine.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict({\n"
        "        'label_smoothing': 0, 'epochs': 3, 'model': {'width': 4},\n"
        "        'optimizer': {'learning_rate': 1, 'momentum': 0, 'nesterov': True},\n"
        "        'schedule': {'name': 'cosine', 'warmup_epochs': 1},\n"
        "        'stages': ({'name': 'one', 'schedule': {'warmup_epochs': 0}},),\n"
        "    })\n"
    )
    config = recipes.load(path)
    stage = config.stages[0]
    assert (config.label_smoothing, stage.schedule.warmup_epochs) == (0, 0)
    optimizer = {"learning_rate": 1, "momentum": 0, "nesterov": True, "l2": 0}
    assert config.optimizer.to_dict() == optimizer
    assert {type(config.optimizer[name]) for name in ("learning_rate", "momentum")} == {float}
    assert [type(value) for value in (config.label_smoothing, config.epochs)] == [float, int]
    assert (type(config.optimizer.nesterov), type(config.model.width)) == (bool, int)
    assert config.schedule.warmup_epochs == 1
    # As --config.schedule.warmup_epochs=0.5 does it.
    config.schedule.warmup_epochs = stage.schedule.warmup_epochs = 0.5
    assert recipes.load("mnist_5k").schedule.get_type("warmup_epochs") is float


@pytest.mark.parametrize(
    "name", ["model.padding", "optimizer.weight_decay", "stages[1].dataset.augmentation.lighting"]
)
def test_an_argument_that_the_recipe_does_not_know_has_to_be_in_its_file(name):
    group = re.fullmatch(r"(?:stages\[1\]\.)?(.*)\.\w+", name)[1]
    message = f"What else its `{group}` takes has to be in the recipe's file"
    with pytest.raises(ValueError, match=message):
        recipe.make_settable(recipes.load("cifar10_staged"), name)
    with pytest.raises(ValueError, match=r"no field `nothing`\. Fields: .*[^e]\.$"):
        recipe.make_settable(recipes.load("cifar10"), "nothing")


@pytest.mark.parametrize(
    "name", ["stages[3].batch_size", "stages[1].seed", "stages[1].dataset.image_size", "nothing"]
)
def test_what_cannot_be_set(name):
    with pytest.raises(ValueError, match=rf"no field `{re.escape(name)}`"):
        recipe.make_settable(recipes.load("cifar10_staged"), name)


def test_a_recipe_is_loaded_by_name_or_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict({'epochs': 3})\n"
    )
    assert recipes.load(path).epochs == 3
    assert "mnist_5k" in recipes.list_recipes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"one of \['cifar10', .*\] or the path .*mnist5k.py'. Near: mnist_5k"),
        ("x = 1", r"mnist5k.py must define get_config\(\)"),
        ("def get_config(): return {}", "that returns a ConfigDict"),
        ("def get_config(: return {}", "mnist5k.py: SyntaxError"),
        ("import nothing_of_that_name", "mnist5k.py: ModuleNotFoundError: .*nothing_of"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path, content, message):
    path = tmp_path / "mnist5k.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        recipes.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a positive int. Received: epochs=0"),
        ({"epochs": 2.5}, "`epochs` must be a positive int"),
        ({"batch_size": True}, "`batch_size` must be a positive int"),
        ({"dataset.image_size": -1}, "`dataset.image_size` must be a positive int"),
        ({"model.num_classes": 0}, "`model.num_classes` must be"),
        ({"optimizer.learning_rate": 0.0}, "`optimizer.learning_rate` must be a positive number"),
        ({"optimizer.learning_rate": float("nan")}, "`optimizer.learning_rate` must be"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be a number in \[0, 1\)"),
        ({"seed": -1}, "`seed` must be"),
        ({"label_smothing": 0.1}, "no field `label_smothing`. Near: label_smoothing"),
        ({"dataset.augmentations": {}}, "no field `dataset.augmentations`. Near: dataset.aug"),
    ],
)
def test_says_which_field_is_wrong(config, changes, message):
    with config.ignore_type():
        for field, value in changes.items():
            *groups, key = field.split(".")
            group = config
            for name in groups:
                group = group[name]
            group[key] = value
    with pytest.raises(ValueError, match=message):
        recipes.check(config)


@pytest.mark.parametrize("field", ["seed", "schedule", "optimizer.learning_rate"])
def test_says_which_field_is_missing(config, field):
    *groups, key = field.split(".")
    group = config[groups[0]] if groups else config
    del group[key]
    with pytest.raises(ValueError, match=f"lacks the field `{field}"):
        recipes.check(config)


def test_a_group_must_be_a_group():
    config = ml_collections.ConfigDict({"model": "BiRealNet18"})
    with pytest.raises(ValueError, match=r"lacks the field `model.name`"):
        recipes.check(config)


def test_a_config_that_was_not_loaded_says_so():
    with pytest.raises(ValueError, match=r"must hold ConfigDicts, as `recipes.load`.*: dict\."):
        recipe.check(cifar10_staged.get_config())
