"""What the pages of all reports share: templates, filters, the security policy, data for the script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from prill.report import numbers
from prill.report.overview import spoken

__all__ = ["MAX_BYTES", "asset", "embedded_json", "environment", "policy", "prose"]

MAX_BYTES = 2_900_000  # below 3 MB with room for a mail header or a comment


def environment() -> Any:
    """Templates of this package, with every value escaped and the numbers' filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("prill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = (
        "compact",
        "count",
        "difference",
        "interval",
        "loss",
        "percent",
        "plain",
        "power",
        "score",
        "size",
    )
    environment.filters |= {name: getattr(numbers, name) for name in shown}
    environment.filters |= {"prose": prose, "spoken": spoken}
    environment.filters["percent_whole"] = _percent_whole
    return environment


def _percent_whole(share: float) -> str:
    return f"{100 * share:g}\u00a0%"


def prose(sentence: str) -> Markup:
    """A sentence with true minus signs, and names between backticks set as code; everything is escaped."""
    parts = re.sub(r"(?<![\w.-])-(?=\d)", "−", sentence).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    shown = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    ]
    return Markup("").join(shown)


def policy(css: str, script: str) -> str:
    """The content-security policy that allows this style sheet and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src {_source_hash(css)}; script-src {_source_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def asset(name: str) -> str:
    """A file of the templates' folder, as text."""
    return (files("prill.report") / "templates" / name).read_text(encoding="utf-8")


def embedded_json(entries: Sequence[Any]) -> str:
    """JSON that can stand inside a script element, whatever its strings hold."""
    content = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        content = content.replace(sign, f"\\u{ord(sign):04x}")
    return content
