"""Bits of the table of code points that `composition` makes, for kernels."""

from __future__ import annotations

__all__ = [
    "IS_CONTROL",
    "IS_INVISIBLE",
    "IS_LEAD",
    "IS_LINE_END",
    "IS_LOWER",
    "IS_TRAIL",
    "IS_UPPER",
    "IS_VARIANT",
    "UNSTABLE",
]

UNSTABLE = 0xFF
"""In the low byte, instead of the combining class: composition (NFC) may change the character."""

IS_LOWER = 0x100
IS_UPPER = 0x200
IS_VARIANT = 0x400
"""The compatibility form (NFKC) of the character is another one."""

IS_INVISIBLE = 0x800
IS_CONTROL = 0x1000
IS_LINE_END = 0x2000
IS_LEAD = 0x4000
"""What the first byte of a character becomes when UTF-8 is read as Windows-1252, and the later bytes:"""

IS_TRAIL = 0x8000
