"""Personal data and secrets as a measure: found once as spans, replaced, dropped or only told of later.

The column holds places and kinds, never the text itself, and nothing here writes what it found anywhere.

Source: Soldaini et al. 2024 (Dolma, arXiv:2402.00159): 1 to 5 spans are masked by ` |||EMAIL_ADDRESS||| `
and the like, more than 5 drop the page. Penedo et al. 2024 (FineWeb, arXiv:2406.17557): e-mail addresses and
public IP addresses are replaced by harmless ones. Differs: more kinds, checked by checksum or range; Dolma's
count is off unless `max_spans` is set; FineWeb draws its addresses at random, here there is one a kind.

Legend: D documents, S spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.features.pii import PII_KINDS, PII_VERSION, PiiKind, find_spans, strict_phones
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits, Spans

__all__ = ["HIDDEN", "Pii", "PiiSpec", "without_secrets"]

PiiAction: TypeAlias = Literal["replace", "drop", "tag"]

HIDDEN: Final[tuple[PiiKind, ...]] = ("secret", "card number", "iban", "us ssn")
"""Kinds that are never shown in full, whatever is done about them."""

_SHOWN_CHARACTERS = 4

_MARKS: Final[Mapping[PiiKind, str]] = {
    "email": " |||EMAIL_ADDRESS||| ",
    "ip address": " |||IP_ADDRESS||| ",
    "phone number": " |||PHONE_NUMBER||| ",
    "card number": " |||CARD_NUMBER||| ",
    "iban": " |||IBAN||| ",
    "secret": " |||SECRET||| ",
    "us ssn": " |||US_SSN||| ",
}
_EXAMPLES: Final[Mapping[PiiKind, str]] = {
    "email": "email@example.com",
    "ip address": "192.0.2.1",
    "phone number": "555-0100",
    "card number": "0000 0000 0000 0000",
    "iban": "XX00 0000 0000 0000",
    "secret": "REDACTED",
    "us ssn": "000-00-0000",
}


class PiiSpec(BaseModel):
    """Which personal data and secrets to look for, and what to do about them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[PiiKind, ...] = Field(
        ("email", "ip address", "phone number", "card number", "iban", "secret"),
        min_length=1,
        description="Kinds to look for.",
    )
    actions: dict[PiiKind, PiiAction] = Field(
        default_factory=dict,
        description="By kind: replace the spans (the default), drop documents that hold one, or only tag.",
    )
    max_spans: int | None = Field(
        None,
        ge=0,
        description="Documents with more spans of all kinds are dropped; Dolma takes 5. None for no limit.",
    )
    style: Literal["marks", "examples"] = Field(
        "marks",
        description="What spans are replaced by: Dolma's marks (|||EMAIL_ADDRESS|||), or harmless examples "
        "as in FineWeb (email@example.com).",
    )
    texts: dict[PiiKind, str] = Field(
        default_factory=dict, description="By kind: another text to put in place of the span."
    )
    public_only: bool = Field(
        True,
        description="Leave alone IP addresses of private networks, the machine itself and documentation.",
    )
    skip_references: bool = Field(
        False,
        description="Leave alone e-mail, IP and phone with isbn, doi or # within 50 bytes, as Dolma does.",
    )
    strict_phones: bool = Field(
        False,
        description="Keep phones only where a numbering plan allows them (extra `clean`, phonenumbers).",
    )
    phone_region: str = Field(
        "US", pattern="^[A-Z]{2}$", description="Country of phones without a country code, for strict_phones."
    )


@dataclass(frozen=True, kw_only=True)
class Pii:
    """The measure `pii`; made by `Pii.of`."""

    spec: PiiSpec

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = PII_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: PiiSpec) -> Pii:
        """The measure of a recipe.

        Raises:
            ResourceError: `strict_phones` is set and its package is not installed.
        """
        if spec.strict_phones:
            strict_phones(pa.array([], pa.large_string()), np.empty((0, 4), np.int64))
        return cls(spec=spec)

    @property
    def settings(self) -> Mapping[str, Any]:
        seen = self.spec.model_dump(
            include={"public_only", "skip_references", "strict_phones", "phone_region"}
        )
        return {**seen, "kinds": sorted(set(self.spec.kinds))}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {
            "actions": {kind: self._action(kind) for kind in sorted(set(self.spec.kinds))},
            "max_spans": self.spec.max_spans,
            "texts": dict(sorted(self._texts().items())),
        }

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        summary = "places and kinds of personal data and secrets"
        return [ColumnInfo(name="pii", unit="bytes", version=PII_VERSION, summary=summary)]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        spec = self.spec
        spans_S4 = find_spans(
            batch.text, spec.kinds, public_only=spec.public_only, skip_references=spec.skip_references
        )
        if spec.strict_phones:
            spans_S4 = strict_phones(batch.text, spans_S4, region=spec.phone_region)
        counts_D = np.bincount(spans_S4[:, 0], minlength=batch.n_rows)
        spans = Spans(
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_D)]),
            starts=np.ascontiguousarray(spans_S4[:, 1]),
            stops=np.ascontiguousarray(spans_S4[:, 2]),
            kinds=spans_S4[:, 3].astype(np.int32),
            names=PII_KINDS,
        )
        return {"pii": spans.to_column()}

    def drops(self, table: pa.Table) -> Drops:
        """A rule a kind whose action is `drop`, then the rule of the number of spans."""
        spans = Spans.of_column(table["pii"])
        documents_S = np.repeat(np.arange(table.num_rows), np.diff(spans.offsets))
        found = {}
        for kind in PII_KINDS:
            if kind in self.spec.kinds and self._action(kind) == "drop":
                held_D = np.zeros(table.num_rows, np.bool_)
                held_D[documents_S[_is_kind(spans, [kind])]] = True
                found[f"pii: {kind} found"] = held_D
        if self.spec.max_spans is not None:
            found[f"pii: more than {self.spec.max_spans} spans"] = (
                np.diff(spans.offsets) > self.spec.max_spans
            )
        return found

    def edits(self, table: pa.Table) -> Edits | None:
        """The spans whose action is `replace`, and the texts to put there."""
        replaced = [kind for kind in self.spec.kinds if self._action(kind) == "replace"]
        if not replaced:
            return None
        spans = Spans.of_column(table["pii"])
        keep_S = _is_kind(spans, replaced)
        kept_S = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep_S, dtype=np.int64)])
        chosen = Spans(
            offsets=kept_S[spans.offsets],
            starts=spans.starts[keep_S],
            stops=spans.stops[keep_S],
            kinds=spans.kinds[keep_S],
            names=spans.names,
        )
        return Edits(spans=chosen, replacements={str(kind): text for kind, text in self._texts().items()})

    def _action(self, kind: PiiKind) -> PiiAction:
        return self.spec.actions.get(kind, "replace")

    def _texts(self) -> dict[PiiKind, str]:
        texts = {**(_MARKS if self.spec.style == "marks" else _EXAMPLES), **self.spec.texts}
        return {kind: text for kind, text in texts.items() if kind in self.spec.kinds}


def without_secrets(text: str, table: pa.Table) -> str:
    """The text to show a person: secrets, card numbers and IBANs as four characters and dots.

    Args:
        table: the measure's columns, of this document alone.
    Returns:
        As many bytes of UTF-8 as the text has, so that all spans stay in place.
    """
    spans = Spans.of_column(table["pii"])
    hidden_S = np.flatnonzero(_is_kind(spans, HIDDEN))
    if not len(hidden_S):
        return text
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for start, stop in zip(spans.starts[hidden_S].tolist(), spans.stops[hidden_S].tolist(), strict=True):
        shown = start
        for _ in range(_SHOWN_CHARACTERS):
            shown = min(shown + 1, stop)
            while shown < stop and data[shown] & 0xC0 == 0x80:
                shown += 1
        data[shown:stop] = bytes(byte if byte in b"\r\n" else ord(".") for byte in data[shown:stop])
    return data.decode("utf-8", "surrogatepass")


def _is_kind(spans: Spans, kinds: Sequence[str]) -> NDArray[np.bool_]:
    wanted = np.array([name in kinds for name in spans.names] or [False], np.bool_)
    return wanted[spans.kinds]
