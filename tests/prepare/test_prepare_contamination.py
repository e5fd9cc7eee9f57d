"""Decontamination as users meet it: planted items are found and cut, shuffled items are not."""

import os
import pickle
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prill.corpus.batch import Batch
from prill.demo.machine_text import documents
from prill.errors import DataError
from prill.features.item_index import Item
from prill.prepare.contamination import Contamination, ContaminationSpec
from prill.prepare.contamination.items import read_items

RNG = np.random.default_rng(7)
VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


def words(n: int) -> str:
    return " ".join(RNG.choice(VOCABULARY, size=n))


def item(question: str, answer: str, name: str = "1", task: str = "quiz", passage: str = "") -> Item:
    return Item(task=task, name=name, question=question, answer=answer, passage=passage)


def measure(items: list[Item], **policy: Any) -> Contamination:
    spec = ContaminationSpec.model_validate({"tasks": [{"paths": ["unused"]}], **policy})
    return Contamination(spec=spec, items=tuple(items), digest="0" * 64)


def table(made: Contamination, texts: list[str]) -> pa.Table:
    array = pa.array(texts, pa.large_string())
    return pa.table(made(Batch(shard=0, first_row=0, columns={"text": array})))


def dropped(made: Contamination, texts: list[str]) -> list[bool]:
    drops = made.drops(table(made, texts))
    return np.any(list(drops.values()), axis=0).tolist()


def hits(made: Contamination, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table(made, [text])["contamination_hits"][0].as_py()
    return rows


def remaining(made: Contamination, text: str) -> list[str]:
    edits = made.edits(table(made, [text]))
    assert edits is not None
    raw, at, pieces = text.encode(), 0, []
    for start, stop in zip(edits.spans.starts.tolist(), edits.spans.stops.tolist(), strict=True):
        pieces.append(raw[at:start].decode())
        at = stop
    return [piece for piece in [*pieces, raw[at:].decode()] if piece]


def test_half_of_a_long_item_is_a_hit_and_less_is_not() -> None:
    # 20 words of which 12 are covered: .60 >= .50; of which 9 are covered: .45
    asked = words(20).split()
    made = measure([item(" ".join(asked[:15]), " ".join(asked[15:]))])
    twelve, nine = (f"{words(50)} {' '.join(asked[:n])} {words(50)}" for n in (12, 9))
    assert dropped(made, [twelve, nine]) == [True, False]
    assert hits(made, twelve)[0]["coverage"] == pytest.approx(0.6)
    assert hits(made, twelve)[0]["exact"] == pytest.approx(0.6)


def test_gpt3_cuts_two_hundred_characters_on_either_side() -> None:
    # the card: 200 words, an item of 20 words, 200 words; 890 characters before and behind leave 690 of each
    question = words(20)
    made = measure([item(question, "")], preset="gpt3")
    side = (words(400)[:889]).rsplit(" ", 1)[0]
    side = side + "x" * (889 - len(side))
    text = f"{side} {question} {side}"
    assert [len(piece) for piece in remaining(made, text)] == [690, 690]


def test_gpt3_leaves_a_plant_of_twelve_words_and_joins_cuts_before_it_counts() -> None:
    question = words(40).split()
    made = measure([item(" ".join(question), "")], preset="gpt3")
    assert remaining(made, f"{words(200)} {' '.join(question[:12])} {words(200)}")[0].count(" ") == 411
    whole = (
        f"{words(200)} {' '.join(question[:23])} {words(200)}"  # upstream: 11 hits, the whole document goes
    )
    assert len(remaining(made, whole)) == 2
    assert not np.any([*made.drops(table(made, [whole])).values()])


def test_gpt3_drops_a_document_with_more_than_ten_cuts() -> None:
    question = words(20)
    made = measure([item(question, "")], preset="gpt3")
    ten, eleven = (f"{words(300)} {question} " * n + words(300) for n in (10, 11))
    assert dropped(made, [ten, eleven]) == [False, True]


def test_a_margin_counts_characters_and_small_pieces_go_too() -> None:
    question = words(20)
    made = measure([item(question, "")], action="cut", margin=3, min_piece=10)
    left, right = "é" * 9 + " ", " " + "日" * 30
    assert remaining(made, f"{left}. {question}{right}") == ["é" * 9, "日" * 28]
    assert remaining(made, f"{left[6:]}. {question}{right}") == ["日" * 28]  # 6 bytes would be left before it


def test_every_item_planted_verbatim_is_found_and_shuffled_items_are_not() -> None:
    items = [item(words(n), words(5), str(n)) for n in range(3, 60)]
    made = measure(items)
    planted = [f"{words(30)} {one.question} {one.answer} {words(30)}" for one in items]
    assert all(dropped(made, planted))
    shuffled = []
    for one in items:
        pieces = f"{one.question} {one.answer}".split()
        shuffled.append(f"{words(30)} {' '.join(pieces[::2][::-1] + pieces[1::2][::-1])} {words(30)}")
    assert not any(dropped(made, shuffled))


def test_light_edits_do_not_hide_an_item() -> None:
    asked = words(24).split()
    made = measure([item(" ".join(asked[:18]), " ".join(asked[18:]))])
    changed, missing, added = asked.copy(), asked.copy(), asked.copy()
    changed[4], changed[11], changed[17] = "other", "things", "here"
    del missing[3], missing[12]
    added[5:5], added[14:14] = ["so", "to"], ["say"]
    upper = ", ".join(asked).upper()
    options = f"{' '.join(asked[:18])}\n(A) {words(6)}\n(B) {' '.join(asked[18:])}\nAnswer: (B)"
    texts = [" ".join(changed), " ".join(missing), " ".join(added), upper, options]
    assert dropped(made, [f"{words(40)}\n\n{text}\n\n{words(40)}" for text in texts]) == [True] * 5
    assert [hits(made, text)[0]["coverage"] for text in texts] == pytest.approx([21 / 24, 22 / 24, 1, 1, 1])


def test_short_items_must_be_nearly_exact() -> None:
    asked = words(10).split()
    made = measure([item(" ".join(asked[:8]), " ".join(asked[8:]))])
    one_changed = " ".join([*asked[:6], "other", *asked[7:]])
    two_changed = " ".join([*asked[:5], "other", "thing", *asked[7:]])
    assert dropped(made, [" ".join(asked), one_changed, two_changed, " ".join(asked[:6])]) == [
        True,
        True,
        False,
        False,
    ]


def test_a_quoted_passage_is_told_but_not_dropped() -> None:
    passage, question = words(60), words(9)
    made = measure([item(question, "yes", passage=passage)])
    quoted, leaked = f"{words(30)} {passage} {words(30)}", f"{words(30)} {passage}\n{question}"
    assert dropped(made, [quoted, leaked]) == [False, True]
    assert [hits(made, quoted)[0][key] for key in ("part", "coverage", "passage")] == ["passage", 0.0, 1.0]
    assert hits(made, leaked)[0]["part"] == "passage+question"
    assert dropped(measure([item(question, "yes", passage=passage)], passages="same"), [quoted]) == [True]


def test_the_last_word_of_a_book_passage_decides() -> None:
    passage = words(50)
    made = measure([item("", "penguin", passage=passage)])
    assert dropped(made, [f"{passage} penguin {words(20)}", f"{passage} {words(20)} penguin"]) == [
        True,
        False,
    ]


def test_places_are_bytes_of_the_original_text() -> None:
    question = words(20)
    text = f"Ünï \u200d日本 İ {question.upper()} — ende"
    (hit,) = hits(measure([item(question, "")]), text)
    assert text.encode()[hit["start"] : hit["stop"]].decode() == question.upper()


def test_thresholds_and_ignored_items_are_policy_only() -> None:
    one = item(words(30), "a")
    loose, strict = measure([one]), measure([one], at_least=0.9, ignore=("quiz/9",))
    text = " ".join(one.question.split()[:20])
    stored = table(loose, [text])
    assert loose.settings == strict.settings
    assert loose.policy != strict.policy
    assert stored.equals(table(strict, [text]))
    assert loose.drops(stored)["contains an item of quiz"].tolist() == [True]
    assert strict.drops(stored)["contains an item of quiz"].tolist() == [False]
    assert measure([one], ignore=("quiz/1",)).drops(stored)["contains an item of quiz"].tolist() == [False]
    assert measure([one], action="tag").drops(stored) == {}
    assert measure([one], action="tag").edits(stored) is None


@pytest.mark.parametrize(
    ("preset", "n_shared", "expected"),
    [("palm", 20, False), ("palm", 21, True), ("tulu3", 13, False), ("tulu3", 14, True), ("gpt3", 12, False)],
)
def test_presets_draw_their_own_lines(preset: str, n_shared: int, expected: bool) -> None:
    # 30 words, the last two of them the answer: 70 % of 30 are 21, half of the prompt's 28 are 14
    asked = words(30).split()
    made = measure([item(" ".join(asked[:28]), " ".join(asked[28:]))], preset=preset, action="drop")
    assert dropped(made, [f"{words(9)} {' '.join(asked[:n_shared])} {words(9)}"]) == [expected]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"by": "longest"}, "12 or more"),
        ({"at_least": 13}, "at most 1"),
        ({"n": 5}, "greater than or equal to 8"),
    ],
)
def test_thresholds_that_mean_nothing_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ContaminationSpec.model_validate({"tasks": [{"paths": ["a.jsonl"]}], **given})


def test_datatrove_asks_for_twelve_words_that_touch_the_answer() -> None:
    asked = words(30).split()
    made = measure([item(" ".join(asked[:26]), " ".join(asked[26:]))], preset="datatrove")
    texts = [" ".join(asked[:26]), " ".join(asked[14:26]), " ".join(asked[15:27])]
    assert dropped(made, texts) == [False, False, True]


def test_batches_do_not_matter() -> None:
    items = [item(words(12), words(3), str(k)) for k in range(20)]
    texts = [f"{words(20)} {one.question} {one.answer}. {words(9)}" for one in items] + ["", "日本", words(3)]
    made = measure(items)
    whole = table(made, texts)
    parts = [table(made, texts[k : k + 5]) for k in range(0, len(texts), 5)]
    assert pa.concat_tables(parts).combine_chunks().equals(whole.combine_chunks())


def test_no_documents_and_empty_documents_have_empty_columns() -> None:
    made = measure([item(words(20), "a")])
    assert table(made, []).num_rows == 0
    assert made.drops(table(made, []))["contains an item of quiz"].tolist() == []
    assert table(made, ["", " \n"])["contamination_hits"].to_pylist() == [[], []]


def test_a_measure_crosses_process_borders() -> None:
    made = measure([item(words(20), "a")])
    text = f"{words(9)} {made.items[0].question}"
    expected = table(made, [text])  # builds the index, which travels with it
    other = pickle.loads(pickle.dumps(made))
    assert table(other, [text]).equals(expected)
    assert not any(array.flags.writeable for array in other.index.arrays.values())
    assert other.index.fingerprint == made.index.fingerprint


def test_text_that_repeats_an_item_over_and_over_is_no_slower_than_its_length() -> None:
    asked = words(8)
    made = measure([item(f"{asked} {words(12)} {k}", "a", str(k)) for k in range(32)])
    begin = time.process_time()
    texts = [f"{asked} " * 20_000, "a " * 200_000, " ".join(asked.split()[:5]) * 20_000]
    assert len(table(made, texts)) == 3
    assert time.process_time() - begin < 10


def test_bad_items_are_named_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "target": 3}\n')
    (tmp_path / "b.jsonl").write_text('{"context": "c", "choices": ["x"], "answer_index": 1}\n')
    spec = ContaminationSpec.model_validate(
        {"tasks": [{"paths": ["*.jsonl", "none.jsonl"]}, {"paths": ["b.jsonl"]}]}
    )
    with pytest.raises(DataError) as caught:
        Contamination.of(spec, tmp_path)
    told = str(caught.value.problems)
    assert "a.jsonl:1" in told
    assert "none.jsonl" in told
    assert "b.jsonl:1" in told


def test_forms_of_items(tmp_path: Path) -> None:
    passage = " ".join(["word"] * 30)
    lines = [
        {
            "id": "x",
            "task": "t",
            "context": f"{passage}\nis it so?",
            "choices": ["no", "yes"],
            "answer_index": 1,
        },
        {"prompt": passage, "target": "next"},
        {"q": "why", "a": "so"},
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines[:2]))
    first, second = read_items(path)
    assert (first.task, first.name, first.passage, first.question, first.answer) == (
        "t",
        "x",
        passage,
        "is it so?",
        "yes",
    )
    assert (second.task, second.name, second.passage, second.question) == ("mixed", "2", passage, "")
    path.write_bytes(orjson.dumps(lines[2]))
    (third,) = read_items(path, fields={"question": "q", "answer": "a"})
    assert (third.question, third.answer) == ("why", "so")


def test_real_text_holds_no_shuffled_items() -> None:
    texts = real_texts()
    found = [re.findall(r"\w+", text)[:25] for text in texts[:40]]
    sentences = [one for one in found if len(set(one)) > 15]
    items = [item(" ".join(RNG.permutation(one)), "", str(k)) for k, one in enumerate(sentences)]
    verbatim = [item(" ".join(one), "", str(k)) for k, one in enumerate(sentences)]
    assert not any(dropped(measure(items), texts))
    assert sum(dropped(measure(verbatim), texts)) >= len(sentences)


def real_texts() -> list[str]:
    shared = os.environ.get("PRILL_SHARED_DATA")
    files = sorted(Path(shared).glob("corpus/encyclopedia-*.parquet")) if shared else []
    if files:
        return [str(text)[:20_000] for text in pq.read_table(files[0])["text"].to_pylist()[:150]]
    return [document.text[:20_000] for document in documents(40_000)[:150]]


def test_a_path_alone_is_a_task() -> None:
    assert ContaminationSpec.model_validate({"tasks": ["a.jsonl"]}) == ContaminationSpec.model_validate(
        {"tasks": [{"paths": ["a.jsonl"]}]}
    )
