"""Recipes: one small Python file per experiment. What is in one: `bireal_keras.training.recipe`."""

from bireal_keras.training.recipe import (
    check,
    list_recipes,
    load,
    stages,
    to_dict,
    unknown_field,
)

__all__ = ["check", "list_recipes", "load", "stages", "to_dict", "unknown_field"]
