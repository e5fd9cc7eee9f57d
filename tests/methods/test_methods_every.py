"""Every method on one tiny pool: a column a target, what it saw, and nothing that it must not depend on.

The pool is scored twice: as one shard, and as three with other ids, addresses, sources and licences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from made_text import documents
from pool_of import opened, recipe_of, table_of
from prill.corpus.columns import read_infos
from prill.methods.registry import STRATUM, get_method, list_methods
from prill.methods.scored import Scored, scored
from prill.pipeline.features import Features
from prill.select.policy import Policy

pytest.importorskip("torch")

LESSON = (
    "Chapter {n}. In this lesson students learn the definition of a concept. For example, the theory says "
    "how a process is described, because the principle is known. Therefore the exercise asks question {n}."
)
POOL = [
    *documents(40, seed=1),
    *documents(40, seed=2, kind="b"),
    *(LESSON.format(n=n) for n in range(20)),
    "",
    *documents(12, seed=3, kind="noise"),
    *documents(1, seed=4, n_words=(3_000, 3_001)),
    " \n",
    "",
]
TARGETS = {"a": documents(24, seed=5), "b": documents(24, seed=6, kind="b")}

READS = {"tokens": 4_000, "max_tokens": 64, "precision": "fp32"}
EMBEDDED = {"dimensions": 64}
SETTINGS: dict[str, dict[str, Any]] = {
    "color_filter": READS,
    "combine": {"of": [{"method": "dsir"}, {"method": "length"}]},
    "crisp": {"clusters": [4], **EMBEDDED},
    "dclm": {"n_buckets": 1 << 12},
    "dfn": READS,
    "fineweb_edu": {"n_documents": 60},
    "got_d": EMBEDDED,
    "lbt": {"clusters": [4], "stages": [4_000], "warm_steps": 2, "n_steps": 2, "n_random": 2}
    | {"n_exam_tokens": 64},
    "mates": {"n_tokens": 4_000, "warm_steps": 2, "n_probes": 20, "n_exam_tokens": 64, "stage_tokens": 2_000},
    "miniplm": {**READS, "teacher_size": "pico", "teacher_tokens": 8_000},
    "perplexity": {**READS, "keep": "medium", "buckets": True},
    "preselect": {"sizes": ["pico"] * 4, "tokens": [600, 1_200, 2_400, 4_000], "precision": "fp32"},
    "quad": {
        "n_tokens": 4_000,
        "clusters": [4],
        "n_arms": 2,
        "n_documents": 4,
        "n_pilot": 10,
        "most_iterations": 2,
    }
    | {"curvature_tokens": 1_024, "target_tokens": 1_000},
    "salt": READS,
    "snowcoder": {**EMBEDDED, "negatives": 60, "window": 64},
}
SPANS = {
    **dict.fromkeys(("color_filter", "dfn", "miniplm", "perplexity", "salt"), "first 64 tokens"),
    "dataman": "first and last halves of at most 20,000 characters, 1,894 tokens",
    "fineweb_edu": "first 512 tokens",
    "heuristics": "first 16 MiB",
    "lbt": "clusters: whole document; lessons: sampled documents, first 512 tokens",
    "mates": "prediction: whole document; probes: the first row of sampled documents",
    "quad": "clusters: whole document; influence: sampled documents, first 512 tokens",
    "snowcoder": "256 bytes each at top, middle and bottom",
    "zip_fit": "whole document; the last 32 KiB of it beside a target text",
}
BLIND = {"dataman", "fineweb_edu", "fresh_random", "heuristics", "infobatch", "miniplm", "perplexity"}
BLIND |= {"preselect", "random", "rs2", "salt", "seta"}  # they do not read the targets
OF_LENGTH = {"length"}  # reads how long the targets are, which their kinds do not differ in
OF_SOURCE = {"dataman"}  # its strata are sources x domains, which is its definition


def about(turn: int) -> dict[str, list[str]]:
    """What a pool says of its documents beside their text; nothing is the same at another turn."""
    n = range(len(POOL))
    return {
        "id": [f"d{(i * 7 + turn * 5) % len(POOL)}" for i in n],
        "url": [f"https://{turn}.example/{i % 9}" for i in n],
        "source": [f"s{turn}-{i % 3}" for i in n],
        "license": [("MIT", "CC0", "ISC")[(i + turn) % 3] for i in n],
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Features]]:
    with ExitStack() as stack:
        found = []
        for shards in (1, 3):
            folder = tmp_path_factory.mktemp(f"shards{shards}")
            recipe = recipe_of(folder, POOL, TARGETS, shards=shards, columns=about(shards))
            found.append(stack.enter_context(opened(recipe, folder)))
        yield found


@pytest.fixture(scope="module", params=list_methods())
def name(request: pytest.FixtureRequest) -> str:
    """A method; of the module, so that its tests run one after the other."""
    return str(request.param)


def asked(name: str) -> Scored:
    return scored(name, SETTINGS.get(name, {}), tuple(TARGETS), Path())


def test_every_document_has_a_score_for_every_target(name: str, runs: list[Features]) -> None:
    table = table_of(runs[0], asked(name))
    assert [column for column in table.column_names if column != STRATUM] == list(TARGETS)
    policy = Policy.model_validate(get_method(name).default_policy)
    for target in TARGETS:
        assert table[target].type == pa.float64()
        scores = table[target].to_numpy()
        assert len(scores) == len(POOL)
        assert not np.isinf(scores).any()
        assert np.isfinite(scores).sum() > len(POOL) / 2
        assert policy.on_non_finite == "exclude" or np.isfinite(scores).all()


def test_those_that_read_targets_prefer_their_kind(name: str, runs: list[Features]) -> None:
    table = table_of(runs[0], asked(name))
    of_a, of_b = (table[target].to_numpy() for target in TARGETS)
    if name in BLIND:
        np.testing.assert_array_equal(of_a, of_b)
    elif name not in OF_LENGTH:
        assert preference(of_a) > 0.2
        assert preference(of_b) < -0.2


def preference(scores: np.ndarray) -> float:
    """How much further up kind a is than kind b, as a share of the documents that have a score."""
    kinds = scores[:80]
    rank = np.array([np.nanmean(np.where(np.isnan(scores), np.nan, scores < score)) for score in kinds])
    rank[np.isnan(kinds)] = np.nan
    return float(np.nanmean(rank[:40]) - np.nanmean(rank[40:]))


def test_every_column_tells_what_was_seen(name: str, runs: list[Features]) -> None:
    feature = asked(name)
    runs[0].resolve([feature])
    infos = read_infos(runs[0].done[feature].parts[0])
    for target in TARGETS:
        assert infos[target].span == SPANS.get(name, "whole document")
        assert infos[target].direction == 1
        assert infos[target].summary


def test_scores_depend_on_texts_alone(name: str, runs: list[Features]) -> None:
    one, three = (table_of(run, asked(name)) for run in runs)
    assert one.column_names == three.column_names
    for column in one.column_names:
        if column == STRATUM:
            assert one[column].equals(three[column]) != (name in OF_SOURCE)
        else:
            np.testing.assert_array_equal(one[column].to_numpy(), three[column].to_numpy())
