"""Counts of words and of repeated n-grams, document by document, over given token boundaries.

Boundaries come from a splitter, and any splitter will do. It is called with a whole batch,

    split(offsets_D1, data) -> (tokens_D1, starts_T, ends_T)

    offsets_D1  int64, (D + 1,): document d is data[offsets_D1[d]:offsets_D1[d + 1]], UTF-8 as it stands;
    data        uint8: the bytes of the batch (`Batch.text_buffers`);
    tokens_D1   int64, (D + 1,): document d has the tokens tokens_D1[d]:tokens_D1[d + 1]; tokens_D1[0] == 0;
    starts_T, ends_T   uint32, (>= T,): first byte and byte behind of each token, counted from the first byte
                of its document; ascending, not overlapping, never empty, always between characters, without
                white space at either end (tokens that are white space alone are left out).

so that in a kernel the part for one document has the form

    n_tokens = split_document(data, start, stop, <its own tables>, starts_T, ends_T, n_held)

which writes tokens from place `n_held` on and returns their number; there is room for `stop - start` tokens
and PADDING more (memory that is never touched costs nothing). What a token is made of (symbols alone,
letters, a stop word, its characters, its hash) is found here, from the bytes.

Legend: D documents, T tokens.
"""

from __future__ import annotations
