"""Writes the pages of docs/ that are made from the code, so that they cannot drift from it: recipe, methods,
objectives.

python docs/make_reference.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prill.methods.registry import describe, list_methods
from prill.pipeline import parts
from prill.recipe import PrepareRecipe, TrainRecipe, json_schema

HERE = Path(__file__).parent


def recipe_page() -> str:
    """Every field of a recipe with its type, default and sentence."""
    schema = json_schema()
    lines = [
        "# The recipe, field by field",
        "",
        "Made from the code by `make docs`. Unknown keys are refused. Paths start from the recipe's folder.",
        "Amounts may be written `500k`, `2M tokens`, `20 MB`. `prill schema` prints the same as JSON Schema.",
    ]
    prepare, train = json_schema(PrepareRecipe), json_schema(TrainRecipe)
    models = {**train["$defs"], **schema["$defs"], "PrepareRecipe": prepare, "TrainRecipe": train}
    sections = {"": schema, **{name: models[name] for name in sorted(models)}}
    for name, model in sections.items():
        lines += ["", f"## {name or 'Recipe'}", ""]
        lines += [model["description"].split("\n")[0], ""] if model.get("description") else []
        lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(field, told, model) for field, told in model["properties"].items()]
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """The page of every method."""
    lines = ["# Methods", "", "Made from the code by `make docs`; `prill methods NAME` prints one."]
    for name in list_methods():
        lines += ["", f"## {name}", "", "```", describe(name), "```"]
    return "\n".join(lines) + "\n"


def objectives_page() -> str:
    """The page of every objective and sample transform."""
    lines = ["# Objectives and sample transforms", ""]
    lines.append("Made from the code by `make docs`; `prill objectives NAME` prints one.")
    for kind, catalog in parts.KINDS.items():
        lines += ["", f"## {kind.capitalize()}"]
        for name in catalog.names:
            lines += ["", f"### {name}", "", "```", parts.describe(name), "```"]
    return "\n".join(lines) + "\n"


def _row(name: str, field: dict[str, Any], model: dict[str, Any]) -> str:
    is_required = name in model.get("required", ())
    default = "required" if is_required else f"`{_plain(field.get('default', '…'))}`"
    meaning = field.get("description", "").replace("|", "\\|")
    return f"| `{name}` | {_kind(field)} | {default} | {meaning} |"


def _plain(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(part) for part in field["anyOf"]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} {_kind(field['prefixItems'][0])}s"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    if "additionalProperties" in field and field["additionalProperties"] is not True:
        inner = field["additionalProperties"]
        return f"names to {_kind(inner)}" if inner else field.get("title", "mapping")
    return str(field.get("type", "any"))


if __name__ == "__main__":
    (HERE / "recipe.md").write_text(recipe_page(), encoding="utf-8")
    (HERE / "objectives.md").write_text(objectives_page(), encoding="utf-8")
    (HERE / "methods.md").write_text(methods_page(), encoding="utf-8")
