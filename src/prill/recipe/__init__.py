"""One validated description of everything a run does: `load_recipe` reads it, `json_schema` publishes it."""

from prill.recipe.load import load_recipe
from prill.recipe.model import Recipe, json_schema

__all__ = ["Recipe", "json_schema", "load_recipe"]
