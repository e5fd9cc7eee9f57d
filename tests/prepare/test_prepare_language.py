"""The measure of language and script: columns, verdicts, and what it refuses."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prill.corpus.batch import Batch
from prill.corpus.columns import write_columns
from prill.errors import RecipeError
from prill.prepare.age import Age, AgeSpec
from prill.prepare.language import Language, LanguageSpec
from prill.prepare.pii import Pii, PiiSpec
from prill.prepare.urls import Urls, UrlSpec

TEXTS = [
    "The children were playing in the yard while their parents talked about the news of the day.",
    "Die Kinder spielten im Hof, während ihre Eltern über die Nachrichten des Tages sprachen.",
    "Вчера вечером дети играли во дворе, пока родители обсуждали новости и погоду.",
    "",
    "abc где еще",
]


def _drops(**spec: object) -> dict[str, list[int]]:
    measure = Language.of(LanguageSpec(**spec))  # type: ignore[arg-type]
    batch = Batch(shard=0, first_row=0, columns={"text": pa.array(TEXTS, pa.large_string())})
    drops = measure.drops(pa.table(measure(batch)))
    return {reason: np.flatnonzero(found).tolist() for reason, found in drops.items()}


def test_languages_that_are_not_kept_are_named_in_the_reason() -> None:
    assert _drops(keep=("en", "de")) == {"language: not one of en, de": [2, 3, 4]}
    assert _drops(keep=("en", "de", "ru", "und"))["language: not one of en, de, ru and 1 more"] == []


def test_scripts_and_probability_have_their_own_reasons() -> None:
    drops = _drops(scripts=("Latn",), min_script_share=0.9, min_probability=0.99)
    assert list(drops) == [
        "language: probability below 0.99",
        "script: not one of Latn",
        "script: share below 0.9",
    ]
    assert drops["script: not one of Latn"] == [2, 4]
    assert drops["script: share below 0.9"] == [4]
    assert 3 in drops["language: probability below 0.99"]


def test_nothing_named_drops_nothing() -> None:
    assert _drops() == {}


def test_columns_can_be_stored_and_thresholds_change_no_setting(tmp_path: Path) -> None:
    measure = Language.of(LanguageSpec(keep=("en",)))
    batch = Batch(shard=0, first_row=0, columns={"text": pa.array(TEXTS, pa.large_string())})
    columns = measure(batch)
    write_columns(tmp_path / "part.parquet", columns, measure.columns)
    assert pa.array(columns["script"]).to_pylist() == ["Latn", "Latn", "Cyrl", None, "Cyrl"]
    other = Language.of(LanguageSpec(min_probability=0.65))
    assert other.settings == measure.settings
    assert other.policy != measure.policy
    assert Language.of(LanguageSpec(n_bytes=99)).settings != measure.settings
    assert pickle.loads(pickle.dumps(measure)) == measure


@pytest.mark.parametrize(
    ("spec", "said"), [({"keep": ("english",)}, "'english'"), ({"scripts": ("Latin",)}, "Latn")]
)
def test_unknown_names_are_refused_with_a_near_one(spec: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Language.of(LanguageSpec(**spec))  # type: ignore[arg-type]


def test_measures_give_the_same_columns_from_many_threads() -> None:
    measures = [
        Language.of(LanguageSpec()),
        Pii.of(PiiSpec()),
        Urls.of(UrlSpec()),
        Age.of(AgeSpec()),
    ]
    texts = [f"{text} {k}\r\n write to a{k}@b.org" for k in range(40) for text in TEXTS]
    urls = [f"http://A{k}.org:80/2019/0{k % 9}/" for k in range(len(texts))]
    batch = Batch(
        shard=0,
        first_row=0,
        columns={"text": pa.array(texts, pa.large_string()), "url": pa.array(urls, pa.large_string())},
    )

    def columns(measure: object) -> pa.Table:
        return pa.table(measure(batch))  # type: ignore[operator]

    alone = [columns(measure) for measure in measures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(columns, measures * 4))
    assert all(table.equals(alone[k % len(measures)]) for k, table in enumerate(together))
