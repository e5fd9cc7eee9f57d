"""One validated description of everything a run does: `load_recipe` reads it, `json_schema` publishes it."""

from prill.recipe.load import load_any_recipe, load_recipe, load_train_recipe
from prill.recipe.model import Recipe, json_schema
from prill.recipe.preparation import PrepareRecipe
from prill.recipe.training import TrainRecipe

__all__ = [
    "PrepareRecipe",
    "Recipe",
    "TrainRecipe",
    "json_schema",
    "load_any_recipe",
    "load_recipe",
    "load_train_recipe",
]
