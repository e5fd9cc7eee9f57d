"""Several sample transforms, one after the other.

Each sees the stream that the one before made, with the columns of the documents that its samples came from.
Where tokens end in the text is known only as long as tokens are the text's own, so transforms that read the
text come before those that add tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.lm.data import TokenStream
from prill.lm.samples.subset import aligned, take_documents
from prill.lm.samples.transform import Documents, SampleTransform

__all__ = ["columns_needed", "make_samples", "tags_added", "when_asked"]


def tags_added(transforms: Sequence[SampleTransform]) -> int:
    """Ids that all of them add behind the tokenizer's vocabulary."""
    return sum(transform.n_added for transform in transforms)


def columns_needed(transforms: Sequence[SampleTransform]) -> tuple[str, ...]:
    """Columns of the corpus that any of them reads, sorted; `text` stands for texts and token ends."""
    return tuple(sorted({name for transform in transforms for name in transform.needs}))


def when_asked(
    transforms: Sequence[SampleTransform], documents: Documents, *, seed: int
) -> TokenStream | None:
    """Evaluation documents as models that learnt from these transforms are asked: behind line, source, tag.

    Transforms that say so have a method `when_asked`; where none has one, there is nothing to be asked with:
    None. Every document gives one sample that ends with its own tokens.
    """
    here, is_changed = documents, False
    for transform in transforms:
        asked = getattr(transform, "when_asked", None)
        if asked is not None:
            here, is_changed = replace(here, stream=asked()(here, seed=seed)), True
        here = replace(here, vocab_size=here.vocab_size + transform.n_added)
    return here.stream if is_changed else None


def make_samples(transforms: Sequence[SampleTransform], documents: Documents, *, seed: int) -> TokenStream:
    """The samples that the transforms make in turn.

    Args:
        transforms: in order; the ids of tags are given out in this order too.
        documents: what the first one gets.
        seed: of the run.
    Returns:
        A stream; its `origins` are numbers of `documents`, None when every document is one sample.
    Raises:
        RecipeError: a transform that reads the text follows one that added tokens.
        DataError: as the transforms.
    """
    here = documents
    origins = documents.stream.origins
    for number, transform in enumerate(transforms):
        if "text" in transform.needs and number and here.ends is None:
            raise RecipeError(
                f"a transform that reads the text, {transform.as_record()['name']!r}, must come before "
                f"those that change the tokens, found it as number {number + 1}",
                where="samples",
            )
        stream = replace(here.stream, origins=None)
        made = transform(replace(here, stream=stream), seed=seed)
        ends = _ends_of(made, here)
        if made.origins is not None:
            origins = made.origins if origins is None else origins[made.origins]
            here = aligned(here, np.asarray(made.origins, np.int64))
        here = replace(here, stream=made, ends=ends, vocab_size=here.vocab_size + transform.n_added)
    return replace(here.stream, origins=origins)


def _ends_of(made: TokenStream, before: Documents) -> NDArray[np.int64] | None:
    """Where the tokens of the samples end, if they are the documents' own, all or some of them whole."""
    if before.ends is None or made.tokens is before.stream.tokens:
        return before.ends
    if made.origins is None:
        return None
    taken = take_documents(before, np.asarray(made.origins, np.int64))
    return taken.ends if np.array_equal(taken.stream.tokens, made.tokens) else None
