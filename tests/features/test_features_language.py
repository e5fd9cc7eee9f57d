"""Language labels against py3langid itself, and scripts against Unicode's own property."""

from __future__ import annotations

import functools
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prill.demo.machine_text import reference_topics
from prill.features.language import UNDETERMINED, identify_languages, language_labels
from prill.features.scripts import SCRIPTS, count_scripts, script_table

_SAMPLES = {
    "en": "The quick brown fox jumps over the lazy dog, and nobody in the village was surprised by that.",
    "de": "Der Bundestag hat am Donnerstag über den Entwurf des Gesetzes beraten und ihn angenommen.",
    "fr": "Les enfants jouaient dans la cour pendant que leurs parents discutaient de la nouvelle loi.",
    "ru": "Вчера вечером дети играли во дворе, пока родители обсуждали новости и погоду.",
    "el": "Χθες το βράδυ τα παιδιά έπαιζαν στην αυλή ενώ οι γονείς συζητούσαν τα νέα.",
    "ja": "昨日の夜、子供たちは庭で遊んでいて、両親はニュースについて話していました。",
    "hi": "कल शाम बच्चे आँगन में खेल रहे थे जबकि माता-पिता समाचार पर चर्चा कर रहे थे।",
}


@functools.cache
def _peer() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _texts() -> list[str]:
    shared = os.environ.get("PRILL_SHARED_DATA")
    if shared:
        files = sorted(Path(shared).glob("corpus/*.parquet"))[::6]
        return [
            text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()[::60]
        ]
    return [*reference_topics().values(), *_SAMPLES.values()]


def _check(texts: list[str], n_bytes: int) -> None:
    """Same labels as the package for the same first bytes, probabilities to 1e-3 (its sums run otherwise)."""
    labels, probability_D = identify_languages(
        pa.array(texts, pa.large_string()), n_bytes=n_bytes, quick_bytes=0
    )
    for text, label, probability in zip(texts, labels.to_pylist(), probability_D, strict=True):
        said, confidence = _peer().classify(text.encode()[:n_bytes])
        if label == UNDETERMINED:
            assert confidence < 0.015  # nothing found: 142 classes alike, at most two of one label
        else:
            assert probability == pytest.approx(confidence, abs=1e-3)
            assert (
                label == said or abs(dict(_peer().rank(text.encode()[:n_bytes]))[label] - confidence) < 1e-4
            )


def test_labels_of_real_text_are_those_of_the_package() -> None:
    _check(_texts(), 500)


@given(
    st.lists(
        st.text(max_size=30) | st.text("АБВαβΣabcXYZ \u0301\u0345\u0e33\u1161ก", max_size=20), max_size=9
    )
)
@example(
    [
        "SHOUTED TEXT ONLY",
        "ŞHOUTED ÀÉÎ",
        "e\u0301te\u0301",
        "\u1112\u1161\u11ab",
        "한",
        "ǅ",
        "",
        "\x00\x1f",
        "ａ" * 300,
    ]
)
@settings(deadline=None, max_examples=60)
def test_labels_of_any_text_are_those_of_the_package(texts: list[str]) -> None:
    _check(texts, 64)


def test_languages_are_recognised_in_any_batch_and_slice() -> None:
    column = pa.array([*_SAMPLES.values(), "", "12345 !!"], pa.large_string())
    labels, probability_D = identify_languages(column)
    assert labels.to_pylist()[:-2] == list(_SAMPLES)
    assert labels[-2].as_py() == UNDETERMINED
    assert probability_D[-2] == 0.0
    again, same_D = identify_languages(column.slice(3, 4))
    assert again.to_pylist() == labels.to_pylist()[3:7]
    np.testing.assert_array_equal(same_D, probability_D[3:7])
    assert set(_SAMPLES) <= set(language_labels())


def test_a_quick_label_stands_only_when_it_is_sure() -> None:
    text = _SAMPLES["fr"] * 3 + " " + _SAMPLES["de"] * 40
    column = pa.array([text], pa.large_string())
    quick, _ = identify_languages(column, n_bytes=3000, quick_bytes=200, quick_probability=0.5)
    slow, _ = identify_languages(column, n_bytes=3000, quick_bytes=200, quick_probability=1.1)
    assert (quick[0].as_py(), slow[0].as_py()) == ("fr", "de")


def test_scripts_are_those_of_the_unicode_property() -> None:
    """Letters of Python's Unicode version; 74 signs and iteration marks that the property puts elsewhere."""
    table, different = script_table(), []
    patterns = {code: regex.compile(rf"\p{{Script={code}}}") for code in SCRIPTS[1:]}
    for code in [*range(0x3400), *range(0x4E00, 0x11000, 7), *range(0x11000, 0x1F000)]:
        character = chr(code)
        if unicodedata.category(character)[0] == "L" and "MODIFIER" not in unicodedata.name(character, ""):
            script = SCRIPTS[table[code]]
            if not (script and patterns[script].match(character)):
                is_common = regex.match(r"[\p{Script=Common}\p{Script=Inherited}]", character)
                if not (is_common and not script):
                    different.append(character)
    assert len(different) <= 74
    assert all(table[ord(character)] == 0 for character in " \n0.+€٠😀")


@given(st.text(max_size=90) | st.text("aé日 кΩ\u0301!1", max_size=200))
@settings(deadline=None, max_examples=150)
def test_counts_of_letters_equal_a_plain_count(text: str) -> None:
    table = script_table()
    counts = np.bincount([table[ord(c)] for c in text], minlength=len(SCRIPTS))
    counts[0] = 0
    found = count_scripts(pa.array(["x", text, "ы" * 80], pa.large_string()), with_counts=True)
    assert found.counts is not None
    np.testing.assert_array_equal(found.counts[1], counts)
    assert found.first[1] == (counts.argmax() if counts.any() else 0)
    assert found.n_letters[1] == counts.sum()


def test_dominant_script_and_its_share() -> None:
    found = count_scripts(pa.array(["abc д", "日本", "... 12"], pa.large_string()))
    assert [SCRIPTS[s] for s in found.first] == ["Latn", "Hani", ""]
    np.testing.assert_allclose(found.share, [0.75, 1.0, 0.0])
