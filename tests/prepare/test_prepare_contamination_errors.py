"""Reports of items merge over parts; error rates are right on made text, repeatable, and told by length."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.batch import Batch
from prill.features.item_index import Item
from prill.prepare.contamination import Contamination, ContaminationSpec
from prill.prepare.contamination.error_rates import ErrorRates, estimate_errors
from prill.prepare.contamination.report import ItemsReport, merged_reports

RNG = np.random.default_rng(11)
VOCABULARY = [f"{a}{b}{c}{d}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst" for d in "aeo"]


def words(n: int) -> str:
    return " ".join(RNG.choice(VOCABULARY, size=n))


ITEMS = tuple(
    Item(task=task, name=str(k), question=words(n), answer=words(4), choices=())
    for task, first in (("one", 4), ("two", 60))
    for k, n in enumerate(range(first, first + 30))
)
POOL = ["\n\n".join(words(60) for _ in range(6)) for _ in range(40)]


def made(**policy: object) -> Contamination:
    spec = ContaminationSpec.model_validate({"tasks": [{"paths": ["unused"]}], **policy})
    return Contamination(spec=spec, items=ITEMS, digest="0" * 64)


def columns(measure: Contamination, texts: list[str]) -> pa.Table:
    return pa.table(
        measure(Batch(shard=0, first_row=0, columns={"text": pa.array(texts, pa.large_string())}))
    )


def test_reports_of_parts_add_up_and_are_written(tmp_path: Path) -> None:
    measure = made()
    texts = [f"{POOL[k]} {ITEMS[k].question} {ITEMS[k].answer} {POOL[k]}" for k in (0, 1, 1, 31)] + POOL
    whole = ItemsReport.of(measure, columns(measure, texts))
    parts = [ItemsReport.of(measure, columns(measure, texts[k : k + 7])) for k in range(0, len(texts), 7)]
    assert merged_reports(parts[::-1]).to_table().equals(whole.to_table())
    assert whole.documents[[0, 1, 2, 31]].tolist() == [1, 2, 0, 1]
    assert whole.common(more_than=1) == ("one/1",)
    assert whole.coverage[[0, 1, 31]].tolist() == [1, 1, 1]

    whole.write(tmp_path / "items.parquet", tmp_path / "tasks.json")
    assert pq.read_table(tmp_path / "items.parquet").equals(whole.to_table())
    one, two = orjson.loads((tmp_path / "tasks.json").read_bytes())["tasks"]
    assert (one["task"], one["n_items"], one["n_dirty"], one["n_documents"]) == ("one", 30, 2, 3)
    assert two["dirty_share"] == 1 / 30


def test_what_is_planted_is_found_and_decoys_are_not() -> None:
    rates = estimate_errors(made(), POOL, seed=3)
    light = [rate for rate in rates.recall if rate.kind == "light edits"]
    assert sum(rate.share.k for rate in light) / sum(rate.share.n for rate in light) >= 0.98
    assert all(rate.share.k == rate.share.n for rate in rates.recall if rate.kind == "verbatim")
    assert sum(rate.share.k for rate in rates.false_hits) == 0
    assert {rate.kind for rate in rates.false_hits} == {
        "words shuffled",
        "frame kept",
        "items of another task",
    }
    assert all(rate.share.low <= 1 and (rate.share.estimate or 0) >= 0.95 for rate in rates.precision)
    assert [rate.length for rate in light] == ["8-12", "13-19", "20-49", "50 and more"]
    assert orjson.loads(orjson.dumps(rates.to_json()))["before"]["k"] == 0


def test_a_rule_that_misses_has_a_low_recall_and_one_that_takes_all_a_low_precision() -> None:
    def share(rates: ErrorRates) -> list[float]:
        recall = [rate.share for rate in rates.recall if rate.kind == "one word replaced"]
        return [sum(one.k for one in recall) / sum(one.n for one in recall)]

    assert share(estimate_errors(made(at_least=1.0, short=1.0, part_words=400), POOL, seed=3))[0] < 0.05
    assert share(estimate_errors(made(), POOL, seed=3))[0] > 0.95


def test_equal_seeds_give_equal_rates_and_hits_of_the_sample_are_shown() -> None:
    item = ITEMS[20]
    leaked = [*POOL, f"{POOL[0]}\n\n{item.question} {item.answer}\n\n{POOL[1]}"]
    first, again = (estimate_errors(made(), leaked, seed=5) for _ in range(2))
    assert first == again
    assert (first.before.k, first.before.n) == (1, 41)
    (seen,) = first.seen
    assert (seen.text, seen.task, seen.item, seen.coverage) == (40, item.task, item.name, 1.0)
    assert seen.found == f"{item.question} {item.answer}"
    assert POOL[0].endswith(seen.before.strip())
