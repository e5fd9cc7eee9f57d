"""Rubrics, what a rater sees of a document, and how its answer is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.corpus.tokenizer import TextTokenizer, load_tokenizer, train_bpe
from prill.errors import RecipeError
from prill.features.rater.reading import LONGEST_RAW, fit_to_scale, read_answer
from prill.features.rater.rubric import Rubric, Scale, Span, get_rubric, read_rubric
from prill.features.rater.shown import shown

SCALE = Scale(name="overall_score")


def rubric(name: str) -> Rubric:
    found = get_rubric(name)
    assert found is not None
    return found


DATAMAN, EDU = rubric("dataman"), rubric("fineweb_edu")


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return load_tokenizer(train_bpe(["one two three four five six seven"] * 5, 300))


def lines(domain: str = "E", n: int = 14, grade: str = "4") -> str:
    return "\n".join([domain, *[grade] * n])


def test_the_criteria_and_domains_stand_in_the_order_of_the_card() -> None:
    assert DATAMAN.names == (
        "accuracy", "coherence", "language_consistency", "semantic_density", "knowledge_novelty",
        "topic_focus", "creativity", "professionalism", "style_consistency", "grammatical_diversity",
        "structural_standardization", "originality", "sensitivity", "overall_score",
    )  # fmt: skip
    assert "".join(label.letter for label in DATAMAN.labels) == "ABCDEFGHIJKLMNO"
    assert [label.name for label in DATAMAN.labels][:2] == ["Medicine", "Finance"]
    assert (EDU.scales[0].low, EDU.scales[0].high) == (0, 5)


@pytest.mark.parametrize(
    ("said", "grade"), [(1.5, 1), (2.5, 2), (2.9, 2), (3.0, 3), (3.5, 4), (4.5, 5), (1.0, 1), (5.0, 5)]
)
def test_numbers_between_grades_go_down_below_three_and_up_above(said: float, grade: int) -> None:
    # The card's oracle: 1.5 -> 1, 2.5 -> 2, 2.9 -> 2, 3.0 -> 3, 3.5 -> 4, 4.5 -> 5.
    assert fit_to_scale(said, SCALE, "halves") == grade
    answer = "\n".join(["A", *["4"] * 13, str(said)])
    assert read_answer(DATAMAN, answer).scores == (4.0,) * 13 + (float(grade),)


@pytest.mark.parametrize(
    "answer",
    [
        lines(),
        lines() + "\n\n" + lines(),  # 28 numbers whose halves agree
        "\n".join(["Domain: [E] Technology", *[f"[{i}]Some Name:4/5" for i in range(1, 15)]]),
        "\n".join(["**Domain:** Technology", *[f"{i}. **Some name**: 4 out of 5" for i in range(1, 15)]]),
        "Here are the grades:\n" + lines(),
        "A short text about things.\n" + lines(),  # the article is no domain
    ],
)
def test_answers_in_several_hands_say_the_same(answer: str) -> None:
    found = read_answer(DATAMAN, answer)
    assert (found.scores, found.label, found.raw) == ((4.0,) * 14, "E", "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lines(n=13), "13 numbers"),
        (lines(n=15), "15 numbers"),
        (lines() + "\n" + lines(grade="3"), "28 numbers"),
        (lines("E\nF"), "2 labels"),
        ("\n".join(["4"] * 14), "0 labels"),
        (lines("P"), "0 labels"),
        (lines().replace("4", "N/A", 1), "N/A"),
        (lines(grade="6"), "outside 1 to 5"),
        (lines(grade="0.5"), "outside 1 to 5"),
        ("I cannot rate this.", "0 numbers"),
        ("", "0 numbers"),
        ("9" * 100_000, "0 numbers"),
    ],
)
def test_an_answer_that_is_not_exactly_one_rating_is_none(answer: str, why: str) -> None:
    found = read_answer(DATAMAN, answer)
    assert found.scores is None
    assert why in found.why_not
    assert len(found.raw) <= 10 * LONGEST_RAW


@pytest.mark.parametrize(
    ("answer", "score"),
    [("A clear text.\n\nScore: 3", 3), ("Educational score: 4.7", 4), ("score 9", 5), ("**Score:** -1", 0),
     ("It could score 5 one day, but here:\nScore: 2", 2)],
)  # fmt: skip
def test_the_last_score_counts_as_a_whole_number_within_the_scale(answer: str, score: int) -> None:
    assert read_answer(EDU, answer).scores == (float(score),)


def test_an_answer_without_a_score_is_kept_bounded_and_harmless() -> None:
    found = read_answer(EDU, "\x1b[31m\u202e<script>" + "x" * 1_000_000)
    assert found.scores is None
    assert found.why_not == "no score"
    assert "\x1b" not in found.raw
    assert "\u202e" not in found.raw
    assert len(found.raw) < LONGEST_RAW + 50


@given(st.text(max_size=300), st.sampled_from([DATAMAN, EDU]))
def test_any_answer_is_a_rating_or_none(answer: str, asked: Rubric) -> None:
    found = read_answer(asked, answer)
    assert (found.scores is None) == bool(found.why_not)
    if found.scores is not None:
        assert all(s.low <= x <= s.high for s, x in zip(asked.scales, found.scores, strict=True))


def test_long_texts_are_cut_in_the_middle(tokenizer: TextTokenizer) -> None:
    # 2,000 tokens are more than 1,894: the first 947, "...", the last 947.
    words = [f"{n:04d}" for n in range(2_000)]
    span = Span(max_characters=1_000_000, max_tokens=1_894)
    ends = [np.arange(4, 8_001, 4)]
    found = shown("".join(words), span, lambda texts: ends)
    assert found == "".join(words[:947]) + "..." + "".join(words[-947:])
    assert shown("".join(words[:1_894]), span, lambda texts: [ends[0][:1_894]]) == "".join(words[:1_894])
    # By a real tokenizer: the first and last tokens of the text itself.
    text = " ".join(["one two three", "vier" * 40, "six seven"])
    n = len(tokenizer.encode_batch([text])[0])
    cut = shown(text, Span(max_tokens=8), tokenizer.end_batch)
    head, tail = cut.split("...")
    assert n > 8
    assert text.startswith(head)
    assert text.endswith(tail)


def test_very_long_texts_keep_ten_thousand_characters_at_each_end(tokenizer: TextTokenizer) -> None:
    text = "a" * 10_000 + "b" * 50_000 + "c" * 10_000
    found = shown(text, DATAMAN.span.model_copy(update={"max_tokens": None}), tokenizer.end_batch)
    assert found == "a" * 10_000 + "c" * 10_000
    assert shown("x" * 9_000, EDU.span, tokenizer.end_batch) == "x" * 2_000


def test_an_ellipsis_in_quotes_and_empty_images_go(tokenizer: TextTokenizer) -> None:
    for start in ('"..."', "“…”", '"…"'):
        assert shown(start + "Text here.", DATAMAN.span, tokenizer.end_batch) == "Text here."
    assert shown("a\n![](/img/x.png)\nb", DATAMAN.span, tokenizer.end_batch) == "a\nb"
    assert shown("a\n![a cat](/x.png)\nb", DATAMAN.span, tokenizer.end_batch) == "a\n![a cat](/x.png)\nb"


def test_nothing_in_a_document_is_a_place_to_fill() -> None:
    assert EDU.message("{text} and {x}") == "<text>\n{text} and {x}\n</text>"


def test_the_id_of_a_rubric_changes_with_every_word() -> None:
    assert EDU.id != EDU.model_copy(update={"system": EDU.system + "."}).id


RUBRIC = """
name: humour
system: How funny is it?
scales:
- {name: wit, low: 0, high: 3, meaning: clever}
- {name: warmth}
"""


def test_a_users_rubric_is_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "humour.yaml"
    path.write_text(RUBRIC)
    found = read_rubric(path)
    assert [(s.name, s.low, s.high) for s in found.scales] == [("wit", 0, 3), ("warmth", 1, 5)]
    assert read_answer(found, "wit: 2\n- Warmth: 4.5").scores == (2.0, 4.5)
    assert read_answer(found, "wit: 2").why_not == "no number for warmth"
    assert read_answer(found, "wit: 2\nwit: 3\nwarmth: 1").why_not == "two numbers for wit"
    assert [slot.prefix for slot in found.slots()] == ["wit:", "\nwarmth:"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("name: [", "valid YAML"),
        ("name: a\nname: b", "twice"),
        ("name: &a x\nsystem: *a", "aliases"),
        ("!!python/object/apply:os.system [x]", "tags"),
        ("a: " + "[" * 40, "levels"),
        ("name: x\nsystem: y\nscales: []", "scales"),
        ("name: X\nsystem: y\nscales: [{name: a}]", "name"),
        ("name: x\nsystem: y\nscales: [{name: a, low: 1, high: 1}]", "2 to 10 numbers"),
        ("name: x\nsystem: y\nprompt: none\nscales: [{name: a}]", "say {text} once"),
        ("name: x\nsystem: y\nscales: [{name: a}, {name: a}]", "name of its own"),
        ("name: x\nsystem: y\nscales: [{name: a}]\nshell: ls", "shell"),
        ("x" * 300_000, "characters"),
    ],
)
def test_a_rubric_that_is_none_says_why(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError) as found:
        read_rubric(path)
    assert told in str(found.value)
    assert "r.yaml" in str(found.value)


def test_a_missing_rubric_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="dataman, fineweb_edu"):
        read_rubric(tmp_path / "none.yaml")
