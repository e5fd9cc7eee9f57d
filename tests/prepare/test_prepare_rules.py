"""Page rules: the numbers of the papers' readings, thresholds at their edges, and what never changes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prill.corpus.batch import Batch
from prill.errors import DataError
from prill.prepare.rules import Rules, RulesSpec

ALL = ("gopher_quality", "gopher_repetition", "c4", "mc4", "fineweb", "dolma")
LINES = st.lists(st.sampled_from(["one two three.", "Four words in it", "", "- item", "a", "…"]), max_size=20)


def batch(texts: list[str], **fields: list[str | None]) -> Batch:
    columns = {"text": pa.array(texts, pa.large_string())}
    columns |= {name: pa.array(values, pa.large_string()) for name, values in fields.items()}
    return Batch(shard=0, first_row=0, columns=columns)


def measured(texts: list[str], spec: RulesSpec, **fields: list[str | None]) -> tuple[Rules, pa.Table]:
    rules = Rules.of(spec)
    columns = rules(batch(texts, **fields))
    assert list(columns) == [info.name for info in rules.columns]
    return rules, pa.table(columns)


def reasons(text: str, spec: RulesSpec, **fields: list[str | None]) -> list[str]:
    """All reasons that hold for one text."""
    rules, table = measured([text], spec, **fields)
    return [reason for reason, holds in rules.drops(table).items() if holds[0]]


def value(text: str, column: str) -> float:
    return float(measured([text], RulesSpec(presets=ALL))[1][column][0].as_py())


def test_the_two_readings_of_repeated_lines() -> None:
    text = "aaaa\nbb\naaaa\ncc\naaaa"  # 20 characters with newlines, 16 without
    assert value(text, "repeated_line_share") == 2 / 5  # repeats
    assert value(text, "dolma_repeated_line_share") == 3 / 5  # all members
    assert value(text, "repeated_line_character_share") == 8 / 20
    assert value(text, "dolma_repeated_line_character_ratio") == 12 / 16


def test_the_two_readings_of_repeated_ngrams() -> None:
    text = "a b c d e a b c d e"
    assert value(text, "repeated_5_gram_share") == 5 / 19
    assert value(text, "dolma_repeated_5_gram_share") == 2 / 6  # 2 of the 6 5-grams, each of 5 characters
    assert value(text, "top_2_gram_share") == 6 / 19  # "a b" twice, with its space
    assert value(text, "dolma_top_2_gram_share") == 4 / 10


def test_fifty_words_pass_and_forty_nine_do_not() -> None:
    spec = RulesSpec(presets=("gopher_quality",))
    words = ["the", "river", "and", "its", "banks", "have", "cold", "clear", "water"]
    assert reasons(" ".join((words * 6)[:50]), spec) == []
    assert reasons(" ".join((words * 6)[:49]), spec) == ["gopher: fewer than 50 words"]
    symbols = " ".join((words * 6)[:49]) + " ..."  # symbols alone are no words
    assert "gopher: fewer than 50 words" in reasons(symbols, spec)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("to be or an " * 20, "gopher: mean word length below 3"),
        ("the and " + "extraordinarily " * 60, "gopher: mean word length above 10"),
        ("the and water # " * 20, 'gopher: more than 0.1 "#" a word'),
        ("the and water of this " * 2 + "… more " * 40, "gopher: more than 0.1 ellipses a word"),
        ("- the and water of this\n" * 20, "gopher: bullet lines above 0.9"),
        ("the and water of this...\n" * 20, "gopher: lines ending in an ellipsis above 0.3"),
        ("the and water 123 4567 " * 20, "gopher: words with a letter below 0.8"),
        ("The And water THAT this " * 20, "gopher: fewer than 2 different stop words"),
    ],
)
def test_each_quality_rule_fires(text: str, reason: str) -> None:
    assert reason in reasons(text, RulesSpec(presets=("gopher_quality",)))


def test_the_empty_page_is_dropped_as_empty_and_nothing_else() -> None:
    for text in ("", " \n\t\u3000"):
        assert reasons(text, RulesSpec(presets=ALL)) == ["empty"]
    _, table = measured(["", " "], RulesSpec(presets=ALL))
    for name in set(table.column_names) - {"c4_lines"}:
        assert np.isfinite(np.asarray(table[name], dtype=np.float64)).all()


def test_c4_cuts_lines_and_says_why() -> None:
    kept = "This line has words and an end."
    text = f"Menu\n{kept}\r\nTwo words.\nWe use cookies to serve you.\nTurn JavaScript on, please.\n {kept}\n"
    rules, table = measured([text], RulesSpec(presets=("c4",)))
    edits = rules.edits(table)
    assert edits is not None
    cuts = [(text[span["start"] : span["stop"]], span["kind"]) for span in table["c4_lines"][0].as_py()]
    assert cuts == [
        ("Menu\n", "no end of a sentence"),
        ("\r\nTwo words.", "too few words"),
        ("\nWe use cookies to serve you.", "policy notice"),
        ("\nTurn JavaScript on, please.", "javascript"),
        (" ", "space"),
        ("\n", "space"),
    ]
    assert edits.replacements == {"line break": "\n"}
    assert reasons(text, RulesSpec(presets=("c4",))) == ["c4: fewer than 5 sentences"]
    assert value(text, "c4_n_sentences") == 2


def test_c4_page_rules() -> None:
    spec = RulesSpec(presets=("c4",))
    good = "Here are some words. " * 6
    assert reasons(good, spec) == []
    assert reasons(good + "\nThe Lorem Ipsum is here.", spec) == ["c4: lorem ipsum"]
    assert reasons(good + "\nA { is not prose.", spec) == ["c4: curly bracket"]
    assert reasons(good + "\nA { in a menu", spec) == []  # that line goes before it is looked at
    loose = RulesSpec.model_validate({"presets": ["c4"], "c4": {"drops_curly_brackets": False}})
    assert reasons(good + "\nA { is not prose.", loose) == []
    marked = RulesSpec.model_validate({"presets": ["c4"], "c4": {"cuts": False}})
    rules, table = measured([good], marked)
    assert rules.edits(table) is None


def test_mc4_wants_three_long_lines() -> None:
    spec = RulesSpec(presets=("mc4",))
    assert reasons("\n".join(["é" * 200] * 3), spec) == []
    assert reasons("\n".join(["é" * 200, "é" * 199, "é" * 200]), spec) == [
        "mc4: third longest line below 200 characters"
    ]
    assert "mc4: fewer than 3 lines" in reasons("x" * 900, spec)


def test_fineweb_rules_at_their_edges() -> None:
    spec = RulesSpec(presets=("fineweb",))
    open_line = "this line goes on and on and ends without any mark number "
    lines = [open_line + str(i) for i in range(22)] + [open_line + f"{i}." for i in range(3)]
    assert reasons("\n".join(lines), spec) == []  # 3 of 25 lines = 0.12
    assert reasons("\n".join([*lines, open_line + "x"]), spec) == [
        "fineweb: lines with an end mark below 0.12"
    ]
    short = ["x" * 30 + "。"] + ["y" * 29 + f"{i}。" for i in range(3)]
    assert "fineweb: short lines above 0.67" not in reasons("\n".join(short), spec)
    assert "fineweb: short lines above 0.67" in reasons("a b c.\nd e f.\n" + open_line + "g.\nh i.", spec)
    assert "fineweb: newlines a word above 0.3" in reasons("word.\n\nnext.\n\nlast.", spec)
    assert "fineweb: characters in repeated lines above 0.01" in reasons("\n".join([lines[-1]] * 2), spec)


def test_fineweb_after_c4_sees_what_c4_leaves() -> None:
    text = (
        "A line that C4 takes\n" * 9
        + "This is a sentence of C4 indeed. And one more. And one. And. So. Yes it is."
    )
    here = RulesSpec.model_validate({"presets": ["c4", "fineweb"]})
    after = RulesSpec.model_validate({"presets": ["c4", "fineweb"], "fineweb": {"text": "after_c4"}})
    assert "fineweb: characters in repeated lines above 0.01" in reasons(text, here)
    assert reasons(text, after) == []


def test_thresholds_are_policy_and_measurements_are_settings() -> None:
    plain = Rules.of(RulesSpec())
    other = Rules.of(RulesSpec.model_validate({"gopher_quality": {"min_words": 10, "max_words": None}}))
    assert plain.settings == other.settings
    assert plain.policy != other.policy
    stops = Rules.of(RulesSpec.model_validate({"gopher_quality": {"stop_words": ["der", "die"]}}))
    assert plain.settings != stops.settings
    assert reasons("ein zwei drei", RulesSpec.model_validate({"gopher_quality": {"min_words": 2}})) != []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValidationError):
        RulesSpec.model_validate({"presets": ["gofer"]})
    with pytest.raises(ValidationError):
        RulesSpec.model_validate({"dolma": {"most_common_2gram": 0.2}})
    rules, table = measured(["some text"], RulesSpec(presets=("dolma",)))
    with pytest.raises(DataError, match="dolma_top_2_gram_share"):
        rules.drops(table.drop_columns(["dolma_top_2_gram_share"]))


def test_rules_on_the_corpus_own_numbers() -> None:
    rule = {"field": "toxicity", "drops": ">", "threshold": 0.5}
    spec = RulesSpec.model_validate({"presets": [], "columns": [rule]})
    values = ["0.5", " 0.51 ", None, "high", "nan", "1e3"]
    rules, table = measured(["a"] * 6, spec, toxicity=values)
    assert rules.drops(table)["toxicity above 0.5"].tolist() == [False, True, False, False, False, True]
    strict = RulesSpec.model_validate({"presets": [], "columns": [rule | {"missing": "drop"}]})
    rules, table = measured(["a"] * 6, strict, toxicity=values)
    assert rules.drops(table)["toxicity above 0.5"].tolist() == [False, True, True, True, True, True]
    with pytest.raises(DataError, match="toxicity"):
        measured(["a"], spec, toxicty=["1"])


def test_the_table_names_column_and_source_of_every_rule() -> None:
    rules = Rules.of(RulesSpec(presets=ALL))
    known = {info.name for info in rules.columns}
    assert len(rules.table) == 1 + 10 + 13 + 3 + 2 + 4 + 20
    assert len({rule.reason for rule in rules.table}) == len(rules.table)
    for rule in rules.table[1:]:
        assert rule.column in known
        assert "arXiv:" in rule.source


def test_the_compatible_preset_reads_as_datatrove_does() -> None:
    spec = RulesSpec(presets=("fineweb_datatrove",)).resolved()
    assert spec.families == ("gopher_repetition", "gopher_quality", "c4", "fineweb")
    assert (spec.words, spec.fineweb.text, spec.c4.ends_required, spec.c4.is_published) == (
        "spacy",
        "after_c4",
        False,
        True,
    )
    own = {"presets": ["fineweb_datatrove"], "words": "words", "c4": {"ends_required": True}}
    spec = RulesSpec.model_validate(own).resolved()
    assert (spec.words, spec.c4.ends_required, spec.c4.is_published) == ("words", True, True)


@settings(max_examples=60)
@given(LINES)
def test_one_more_copy_of_a_line_never_lowers_repetition(lines: list[str]) -> None:
    text = "\n".join(lines).strip("\n")  # an empty piece before and one behind the text would be alike
    filled = [line for line in lines if line]
    if not filled:
        return
    more = f"{text}\n{filled[0]}"
    for column in ("repeated_line_share", "dolma_repeated_line_share"):
        assert value(more, column) >= value(text, column)


@settings(max_examples=40)
@given(st.lists(LINES.map("\n".join), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_neighbours_and_order_change_nothing(texts: list[str], random: object) -> None:
    order = np.random.default_rng(len(texts)).permutation(len(texts))
    _, table = measured(texts, RulesSpec(presets=ALL))
    _, shuffled = measured([texts[i] for i in order], RulesSpec(presets=ALL))
    assert shuffled.equals(table.take(pa.array(order)).combine_chunks())
