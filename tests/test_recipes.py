"""The recipes that come with the package, and what is said about one that is wrong."""

import ml_collections
import pytest

from bireal_keras import optimizers, preprocessing, recipes, zoo


@pytest.fixture
def config():
    """A recipe that may be changed."""
    return recipes.load("mnist_5k").unlock()


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_can_be_built(name):
    config = recipes.load(name)
    recipes.check(config)
    assert config.is_locked
    preprocessing.create_augmentation(
        **config.dataset.augmentation, image_size=config.dataset.image_size
    )
    optimizers.create_optimizer(config, steps_per_epoch=10)
    size = config.dataset.image_size
    model_arguments = {**config.model, "input_shape": (size, size, 3)}
    model = zoo.create_model(model_arguments.pop("name"), **model_arguments)
    assert model.output_shape == (None, config.model.num_classes)


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
        ({"model.num_classes": None}, "`model.num_classes` must be"),
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
