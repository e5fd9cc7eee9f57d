"""Documents in and out: formats, remote paths, sidecar columns, tokens.

Nothing heavy is imported here. The description of a corpus (`spec`) needs only pydantic; the readers and
writers are imported from their own modules by whoever reads or writes.
"""

from __future__ import annotations

from prill.corpus.spec import FIELDS, CorpusSpec

__all__ = ["FIELDS", "CorpusSpec"]
