"""ProX: programs are parsed, never run; the card's table; edits as spans of the original."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.corpus.batch import Batch
from prill.errors import DataError
from prill.features.text_hash import hash_documents
from prill.prepare.edit import edited
from prill.prepare.refine.chunks import chunk_prompts
from prill.prepare.refine.execute import execute, judge_document
from prill.prepare.refine.measure import Refine, RefineSpec
from prill.prepare.refine.program import Operation, parse_program
from prill.prepare.refine.released import parse_released

# 5 words, 4 lines of 8 words, 3 words: 40 words in 6 lines.
DOCUMENT = "\n".join(
    [
        "Home | About | Login",
        *(f"Line {i} has exactly seven words here now" for i in range(1, 5)),
        "Share this: http://x.y",
    ]
)
TABLE = [
    ("keep_all()", 6, 40, 0),
    ("remove_lines(line_start=0, line_end=0)", 5, 35, 0),
    ("remove_lines(line_start=5, line_end=9)", 5, 37, 1),
    ("remove_lines(line_start=0, line_end=3)", 2, 11, 0),
    ("remove_lines(line_start=0, line_end=5)", 0, 0, 0),
    ('normalize(source_str="http://x.y", target_str="")', 6, 39, 0),
    ("remove_lines(line_start=x, line_end=2)\nremove_lines(0,1)", 6, 40, 2),
]


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(("program", "n_lines", "n_words", "n_errors"), TABLE)
def test_the_table_of_the_released_executor(
    program: str, n_lines: int, n_words: int, n_errors: int, released: bool
) -> None:
    parsed = parse_released(program) if released else parse_program(program)
    refined = execute(DOCUMENT, parsed, released=released)
    after = refined.text(DOCUMENT)
    assert (len(after.split("\n")) if after else 0, len(after.split())) == (n_lines, n_words)
    assert len(refined.errors) == n_errors


def test_strings_may_hold_what_the_released_executor_splits_at() -> None:
    program = 'normalize(source_str="a, (b) = c", target_str="say \\"hi\\"\\n")'
    text = "one two a, (b) = c three four five six seven eight nine ten eleven"
    assert parse_program(program).operations == (
        Operation(kind="normalize", source="a, (b) = c", target='say "hi"\n'),
    )
    assert 'two say "hi"\n three' in execute(text, parse_program(program), released=False).text(text)
    released = parse_released('normalize(source_str="x=y", target_str="z")')
    assert released.operations == (Operation(kind="normalize", source="x", target="z"),)
    assert execute(text, parse_released(program), released=True).text(text) == text


@pytest.mark.parametrize(
    "program",
    [
        "__import__('os').system('x')",
        'normalize(source_str=open("/etc/passwd").read())',
        "remove_lines(line_start=remove_lines(1,2), line_end=3)",
        "remove_lines(line_start=9999999999999999, line_end=99999999999999999999)",
        "remove_lines(line_start=-5, line_end=2)",
        "remove_lines(line_start=0, line_end=1, all=True)",
        'normalize(source_str="never closed',
        "normalize(" + "(" * 10_000,
        "remove_lines(line_start=1, line_start=1, line_end=2)",
        "keep_all(1)",
    ],
)
def test_hostile_programs_do_nothing_and_are_named(program: str) -> None:
    parsed = parse_program(program)
    assert parsed.operations == ()
    assert parsed.errors or not any(name in program for name in ("normalize", "remove", "keep"))
    assert execute(DOCUMENT, parsed, released=False).text(DOCUMENT) == DOCUMENT


def test_long_programs_are_refused_whole() -> None:
    for program in ("keep_all()\n" * 1001, "x" * 70_000):
        parsed = parse_program(program)
        assert parsed.refusal
        assert execute(DOCUMENT, parsed, released=False).decision == "program_ignored"


def test_too_many_replacements_are_refused() -> None:
    parsed = parse_program('normalize(source_str="e", target_str="E")')
    refined = execute(DOCUMENT, parsed, released=False, most_replaced=5)
    assert (refined.n_replaced, len(refined.errors)) == (0, 1)


def test_few_words_drop_a_document_only_when_a_sound_program_edits_it_unless_released() -> None:
    short = "only four words here"
    bad = "remove_lines(line_start=x)\nremove_lines(line_start=y)"
    assert execute(short, parse_program("keep_all()"), released=False).decision == "keep"
    assert execute(short, parse_program(bad), released=False).decision == "program_ignored"
    assert execute(short, parse_released(bad), released=True).decision == "drop"
    assert execute("", parse_released(bad), released=True).decision == "program_ignored"


def test_document_verdicts() -> None:
    refusal = 'I cannot say "drop_doc" about this'
    for text, ours, released in [
        ("drop_doc()", "drop", "drop"),
        ("keep_doc()", "keep", "keep"),
        (refusal, "program_ignored", "drop"),
        ("drop_doc()\nkeep_doc()", "program_ignored", "drop"),
    ]:
        assert judge_document(parse_program(text), text, released=False).decision == ours
        assert judge_document(parse_program(text), text, released=True).decision == released


_LINES = st.lists(st.text(alphabet="ab cé東\t", max_size=8), min_size=1, max_size=8)


@given(_LINES, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=4))
def test_without_replacements_the_lines_left_are_lines_of_the_text(
    lines: list[str], ranges: list[tuple[int, int]]
) -> None:
    text = "\n".join(lines)
    program = "\n".join(f"remove_lines(line_start={a}, line_end={a + n})" for a, n in ranges)
    refined = execute(text, parse_program(program), released=False, min_words=0)
    gone = {k for a, n in ranges for k in range(a, a + n + 1)}
    kept = "\n".join(line for k, line in enumerate(lines) if k not in gone)
    if refined.decision == "edited":
        assert refined.text(text) == kept
    elif refined.decision == "keep":
        assert refined.text(text) == text
    if refined.decision == "drop":
        assert len(kept.split()) <= 0.05 * len(text.split())


@given(
    st.text(alphabet="abc \né", max_size=60),
    st.lists(
        st.tuples(st.text(alphabet="abc é", min_size=1, max_size=3), st.text(alphabet="abx\n", max_size=3)),
        max_size=4,
    ),
    st.integers(0, 6),
)
def test_replacements_then_lines_are_what_strings_say(
    text: str, pairs: list[tuple[str, str]], line: int
) -> None:
    calls = [
        f"normalize({json.dumps(a, ensure_ascii=False)}, {json.dumps(b, ensure_ascii=False)})"
        for a, b in pairs
    ]
    program = parse_program("\n".join([*calls, f"remove_lines(line_start={line}, line_end={line})"]))
    assert len(program.operations) == len(pairs) + 1
    expected = text
    for source, target in pairs:
        expected = expected.replace(source, target) if source.strip() else expected
    lines = expected.split("\n")
    expected = "\n".join(one for k, one in enumerate(lines) if k != line)
    refined = execute(text, program, released=False, min_words=0)
    if refined.decision == "edited":
        assert refined.text(text) == expected


@given(st.text(max_size=200))
def test_any_text_is_read_to_a_decision(text: str) -> None:
    decisions = {"keep", "edited", "drop", "program_ignored"}
    for wrapped in (text, f"remove_lines({text}", f"normalize({text})", f'normalize("{text}")'):
        assert execute(text, parse_program(wrapped), released=False).decision in decisions
        assert execute(text, parse_released(wrapped), released=True).decision in decisions


def test_chunks_number_lines_through_the_document_and_fit() -> None:
    text = "aa\nbb\n" + "c" * 50 + "\nd"
    chunks = chunk_prompts(text, lambda lines: [len(line) for line in lines], chunk_tokens=15)
    assert chunks == ["[doc][000]aa\n[001]bb[/doc]", f"[doc][002]{'c' * 50}[/doc]", "[doc][003]d[/doc]"]


def test_the_measure_finds_programs_and_edits_bytes(tmp_path: Path) -> None:
    texts = [DOCUMENT, DOCUMENT.replace("Line", "Zeile é東"), "no program", DOCUMENT]
    high, low = (int(part[1]) for part in hash_documents(pa.array(texts, pa.large_string())))
    rows = [
        {"id": "a", "doc_program": "keep_doc()", "chunk_program": "remove_lines(line_start=0, line_end=0)"},
        {
            "hash": f"{high:016x}{low:016x}",
            "chunk_program": 'normalize("é東", "e")\nremove_lines(line_start=5,line_end=5)',
        },
        {"id": "d", "doc_program": "drop_doc()"},
    ]
    (tmp_path / "programs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    measure = Refine.of(RefineSpec(programs=Path("programs.jsonl")), tmp_path)
    text = pa.array(texts, pa.large_string())
    ids = pa.array(["a", "b", "c", "d"], pa.large_string())
    batch = Batch(shard=0, first_row=0, columns={"text": text, "id": ids}, bad=())
    table = pa.table(measure(batch))
    assert table["refine_decision"].to_pylist() == ["edited", "edited", None, "drop"]
    ((_, is_dropped),) = measure.drops(table).items()
    assert is_dropped.tolist() == [False, False, False, True]
    edits = measure.edits(table)
    assert edits is not None
    after = edited(text, [edits]).to_pylist()
    assert after[0] == DOCUMENT.split("\n", 1)[1]
    assert after[1] == "\n".join(texts[1].replace("é東", "e").split("\n")[:5])
    assert after[2:] == texts[2:]
    assert {info.name for info in measure.columns} == set(table.column_names)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"id": 3}', '{"hash": "xyz"}', '{"id": "a", "doc_program": 1}', '{"id": "a", "x": ""}'],
)
def test_a_damaged_file_of_programs_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "programs.jsonl"
    path.write_text('{"id": "a"}\n' + line)
    with pytest.raises(DataError) as found:
        Refine.of(RefineSpec(programs=path), tmp_path)
    assert "programs.jsonl:2" in str(found.value)
