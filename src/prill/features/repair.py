"""Repair of text as Unicode: mojibake, line ends, control and invisible characters, normal forms.

The steps run in that order, each on what the one before left. A kernel says which documents could change at
all, so that clean ones, ASCII above all, cost a fraction of a millisecond a megabyte.

Legend: D documents.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import text_buffers
from prill.errors import ResourceError
from prill.features.composition import INVISIBLE, composition_table

__all__ = [
    "REPAIR_VERSION",
    "RepairOptions",
    "find_repairs",
    "needed_flags",
    "repair_text",
    "repair_texts",
    "require_ftfy",
]

REPAIR_VERSION: Final = 1
"""Version of the steps; it changes whenever a repaired text changes."""

Form: TypeAlias = Literal["none", "NFC", "NFKC"]

_LINE_ENDS: Final = "\r\n|[\r\u0085\u2028\u2029]"
_CONTROLS: Final = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]+"
_INVISIBLE: Final = f"[{INVISIBLE}]+"


class RepairOptions(BaseModel):
    """Which repairs are made; the defaults change nothing that a reader can see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Form = Field(
        "NFC", description="Unicode normal form: NFC joins letters and accents, NFKC also unifies variants."
    )
    line_ends: bool = Field(True, description="Write every line end as a line feed.")
    controls: bool = Field(True, description="Remove control characters other than tab and line ends.")
    invisible: bool = Field(
        True, description="Remove byte order marks, zero-width spaces and the like; joiners stay."
    )
    mojibake: bool = Field(
        False, description="Undo UTF-8 that was read as another encoding (extra `clean`, the package ftfy)."
    )


def repair_text(text: str, options: RepairOptions) -> str:
    """One text, repaired; repairing twice changes nothing unless mojibake was itself misread.

    >>> repair_text("\\ufeffCafe\\u0301\\r\\n", RepairOptions())
    'Café\\n'

    Raises:
        ResourceError: mojibake is asked for and ftfy is not installed.
    """
    if options.mojibake:
        text = str(require_ftfy().fix_encoding(text))
    if options.line_ends:
        text = re.sub(_LINE_ENDS, "\n", text)
    if options.controls:
        text = re.sub(_CONTROLS, "", text)
    if options.invisible:
        text = re.sub(_INVISIBLE, "", text)
    return text if options.form == "none" else unicodedata.normalize(options.form, text)


def find_repairs(text: pa.Array) -> NDArray[np.uint8]:
    """Which repairs might change each document, flags of `_repair_kernel`, uint8, shape (D,).

    Args:
        text: large_string without nulls, D documents, any slice.
    """
    from prill.features._repair_kernel import mark_repairs

    offsets, data = text_buffers(text)
    flags_D = np.zeros(len(text), np.uint8)
    mark_repairs(offsets, data, composition_table(), flags_D)
    return flags_D


def needed_flags(options: RepairOptions) -> int:
    """The flags that concern these options."""
    from prill.features import _repair_kernel as flags

    wanted = flags.LINE_END if options.line_ends else 0
    wanted |= flags.CONTROL if options.controls else 0
    wanted |= flags.INVISIBLE if options.invisible else 0
    wanted |= flags.MISREAD if options.mojibake else 0
    wanted |= flags.UNCOMPOSED if options.form != "none" else 0
    return wanted | (flags.VARIANT if options.form == "NFKC" else 0)


def repair_texts(text: pa.Array, options: RepairOptions | None = None) -> pa.Array:
    """A column, repaired: only documents that might change are looked at one by one.

    Args:
        text: large_string without nulls, any slice.
    Returns:
        large_string of the same length; the same array when nothing changes.
    """
    import pyarrow.compute as pc

    options = options or RepairOptions()
    rows_D = (find_repairs(text) & needed_flags(options)) != 0
    if not rows_D.any():
        return text
    mask = pa.array(rows_D)
    repaired = [repair_text(document, options) for document in text.filter(mask).to_pylist()]
    return pc.replace_with_mask(text, mask, pa.array(repaired, pa.large_string()))


def require_ftfy() -> Any:
    """The package ftfy.

    Raises:
        ResourceError: it is not installed.
    """
    try:
        import ftfy
    except ImportError as error:
        message = "expected the package ftfy for repair of mojibake, found none"
        raise ResourceError(message, where="repair.mojibake", hint="pip install 'prill[clean]'") from error
    return ftfy
