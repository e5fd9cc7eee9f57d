"""Hostile documents and lists end measured, set aside or refused by name; the account is exact."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_study import prill

from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec

EVERYTHING = """\
prepare:
  memory: 16000000
  {texts}
  urls: {{}}
  rules: {{presets: [gopher_quality, gopher_repetition, c4, mc4, fineweb, dolma]}}
  refine: {{programs: programs.jsonl}}
  lists: [{{name: signs, paths: signs.txt, mode: substring, action: cut}}]
  pii: {{actions: {{secret: tag}}}}
  contamination: {{tasks: [{{paths: [items.jsonl]}}]}}
  exact: {{by: normal}}
  same_url: {{}}
  lines: {{}}
  substring: {{}}
  semantic: {{}}
output: out
"""
SECRET = "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
PROSE = "The keeper of the lighthouse wrote that the sea was calm and that the ships had come home early. "
DOCUMENTS = {
    "long word": "x" * 100_000,
    "empty": "",
    "blank": " \n\t\u3000" * 200,
    "controls": "".join(map(chr, range(1, 32))) * 20,
    "bidi": "\u202e abc \u2066\u2069\u200b\ufeff" * 100,
    "lines": "a\n" * 20_000,
    "same lines": "This line is here again and again.\n" * 2_000,
    "combining": "e" + "\u0301" * 5_000 + " x",
    "families": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 1_000,
    "cjk": "这是一个没有空格的文本" * 500,
    "thai": "ภาษาไทยไม่มีช่องว่าง" * 500,
    "signs": "@" * 5_000 + "a." * 5_000 + "{" * 5_000 + "<div>" * 2_000,
    "numbers": "4 1 1 " * 5_000 + "1." * 5_000,
    "not characters": "\uffff\ufffe\U0010ffff" * 300,
    "secret": PROSE * 8 + f"The token is {SECRET} and stays. " + PROSE,
    "(a+)+$": "(a+)+$ .* [\\ ^ " + "a" * 5_000,
}
BAD_LINES = [b'{"id": "lone", "text": "\\ud800 alone"}', b'{"id": "cut", "text": "no end', b'{"text": 7}']
PROGRAMS = [
    "__import__('os').system('touch PWNED')",
    "(" * 20_000,
    "x" * 1_000_000,
    "remove_lines(line_start=0, line_end=99999999999999999999999999)",
    "normalize(source_str='', target_str='y')",
    "[[[" * 2_000,
]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A recipe over hostile documents, lists, items and programs."""
    (tmp_path / "pool").mkdir()
    urls = [None, "", "http://[::1", "\x1b[31m", "javascript:alert(1)", "http://x.com/2019/07/"]
    stamps = [None, "garbage", "99999999999999", "0000-00-00"]
    rows = [
        {"id": [name, None, "doubled"][i % 3], "text": text, "url": urls[i % 6], "timestamp": stamps[i % 4]}
        for i, (name, text) in enumerate(DOCUMENTS.items())
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool" / "a.parquet", row_group_size=3)
    lines = [orjson.dumps(row) for row in rows]
    (tmp_path / "pool" / "b.jsonl").write_bytes(b"\n".join([*lines[:4], *BAD_LINES, *lines[4:]]) + b"\n")
    programs = [{"id": name, "doc_program": text} for name, text in zip(DOCUMENTS, PROGRAMS, strict=False)]
    (tmp_path / "programs.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in programs))
    items = [("one", "word"), ("z" * 100_000, "long word"), ("The same line again. " * 5_000, "long item")]
    (tmp_path / "items.jsonl").write_bytes(
        b"".join(
            orjson.dumps({"id": name, "task": "t", "prompt": prompt, "target": "y"}) + b"\n"
            for prompt, name in items
        )
    )
    (tmp_path / "signs.txt").write_text("(a+)+$\n.*\n[\\\n   \n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "corpus: {paths: [pool/*], on_bad: quarantine}\n" + EVERYTHING.format(texts="repair: {}")
    )
    return recipe


def test_every_hostile_document_is_accounted_for(hostile: Path) -> None:
    prill("prepare", hostile, "-q", "-j", "2")
    out = hostile.parent / "out"
    numbers = json.loads((out / "corpus.json").read_text())
    dropped = {rule["reason"]: rule["first"]["n_documents"] for rule in numbers["rules"]}
    n_prepared = sum(pq.read_metadata(path).num_rows for path in (out / "prepared").iterdir())
    assert numbers["before"]["n_documents"] == 2 * len(DOCUMENTS) + len(BAD_LINES)
    assert numbers["kept"]["n_documents"] == n_prepared
    assert numbers["before"]["n_documents"] == n_prepared + sum(dropped.values())
    assert {name: n for name, n in dropped.items() if name.startswith("bad record")} == {
        "bad record: lone_surrogate": 1,
        "bad record: malformed_json": 1,
        "bad record: wrong_type": 1,
    }
    (read,) = out.glob("steps/read-*")
    table = pa.concat_tables(pq.read_table(path) for path in sorted(read.glob("*.parquet")))
    assert [bytes(raw) for raw in table["bad_raw"].to_pylist() if raw is not None] == BAD_LINES
    wheres = table["bad_where"].drop_null().to_pylist()
    assert [where.split(": ")[0].rsplit("/", 1)[1] for where in wheres] == [f"b.jsonl:{n}" for n in (5, 6, 7)]
    assert not list(hostile.parent.rglob("PWNED"))
    assert not Path("PWNED").exists()


def test_a_secret_that_stays_is_shown_nowhere_in_full(hostile: Path) -> None:
    hostile.write_text(
        "corpus: {paths: [pool/a.parquet]}\n"
        "prepare: {rules: null, near: null, pii: {actions: {secret: drop}}}\noutput: out\n"
    )
    done = prill("prepare", hostile, "-q")
    out = hostile.parent / "out"
    row = list(DOCUMENTS).index("secret")
    told = prill("why", f"0:{row}", "--run", out).stdout
    assert "dropped: pii: secret found" in told
    page = (out / "report.html").read_text()
    for shown in (told, page):
        assert f"The token is {SECRET[:4]}{'.' * (len(SECRET) - 4)} and stays." in shown
    texts = [path.read_text() for path in out.rglob("*.json*")]
    for shown in (told, page, done.stdout, done.stderr, *texts):
        assert SECRET not in shown
        assert SECRET[4:20] not in shown


def test_what_prill_writes_of_a_document_of_one_character_it_can_read_again(tmp_path: Path) -> None:
    long = b'{"text": "' + b"z" * 40_000_000 + b'"}\n'
    (tmp_path / "a.jsonl").write_bytes(long)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "corpus: {paths: [a.jsonl]}\noutput: out\n"
        "prepare: {repair: {}, rules: null, pii: null, near: null, language: null}\n"
    )
    assert "1 document in, all of them kept" in prill("prepare", recipe, "-q").stdout
    prepared = Corpus.open(CorpusSpec(paths=[str(tmp_path / "out" / "prepared")]))
    (batch,) = prepared.batches(prepared.shards[0], ("text",))
    assert len(batch.text[0].as_py()) == 40_000_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("items.jsonl", b"", "at least one item"),
        ("items.jsonl", b'{"id": "1", "prompt": "a", "target": "b"}\n' * 2, "more than once"),
        ("signs.txt", b"\xff\xfe\x00\x01", "signs.txt"),
        ("programs.jsonl", b"[1]\n", "programs.jsonl:1"),
        ("tokenizer.json", b"\x00\x01", "tokenizer.json"),
        ("domains.txt", b"\xff\xfe\n", "domains.txt"),
    ],
)
def test_a_damaged_list_is_one_error_that_names_it(
    hostile: Path, name: str, content: bytes, said: str
) -> None:
    (hostile.parent / name).write_bytes(content)
    parts = {
        "tokenizer.json": "tokens: {path: tokenizer.json}",
        "domains.txt": "urls: {lists: [{name: d, path: domains.txt}]}",
        "signs.txt": "lists: [{name: signs, paths: signs.txt}]",
        "items.jsonl": "contamination: {tasks: [{paths: [items.jsonl]}]}",
        "programs.jsonl": "refine: {programs: programs.jsonl}",
    }
    hostile.write_text(
        f"corpus: {{paths: [pool/*], on_bad: quarantine}}\nprepare: {{{parts[name]}}}\noutput: out\n"
    )
    wrong = prill("prepare", hostile, "-q", check=3)
    assert said in wrong.stderr
    assert name in wrong.stderr
    assert "hint: " in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert not (hostile.parent / "out" / "prepared").exists()


@pytest.mark.parametrize("texts", [[""], ["only one document"]])
def test_hardly_any_documents_still_give_a_report(tmp_path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "a.parquet")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "corpus: {paths: [a.parquet]}\noutput: out\n"
        "prepare: {lines: {}, substring: {}, semantic: {}, same_url: null, exact: {by: normal}}\n"
    )
    assert prill("prepare", recipe, "-q").stdout.startswith(f"{len(texts)} document")
    assert (tmp_path / "out" / "report.html").exists()
    assert len(list((tmp_path / "out" / "prepared").iterdir())) == 1


def test_no_document_at_all_is_one_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("corpus: {paths: [a.parquet]}\nprepare: {}\noutput: out\n")
    assert "a.parquet: expected documents" in prill("prepare", recipe, "-q", check=3).stderr
