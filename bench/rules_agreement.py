"""Do Prill's page rules and datatrove's filters agree? Document by document, with the causes.

    python bench/rules_agreement.py [--corpus shared | DIR] [--every N] [--peer-results PATH] [--shown 20]

`shared` is `$PRILL_SHARED_DATA/corpus`; DIR is a folder of Parquet files with a `text` column.
PRILL_PEER_DATATROVE names a Python that has datatrove and spaCy; it judges in a process of its own
(`peer_datatrove_rules.py`, about 0.1 MB a CPU second for all five filters and their chain). --peer-results
is a file that it wrote, or a folder of such files, and is used instead; --keep says where to keep what it
writes now.

Printed for each filter: documents, how many verdicts are the same, how many reasons are the same where both
drop, how many texts are the same where both keep and C4 edits; then CPU seconds and their ratio; then each
document that differs, with the column that Prill judged and datatrove's reason.

Known causes: a page without a word is dropped as empty by Prill whatever the filter, while datatrove's
repetition filter alone keeps white space; of a page with both "lorem ipsum" and "{" datatrove names what
stands first; datatrove strips the text that C4 leaves once more, after citations at its end went.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.batch import Batch, text_buffers
from prill.features.spacy_words import split_english
from prill.prepare.edit import edited
from prill.prepare.rules import Rules, RulesSpec

PEER = Path(__file__).with_name("peer_datatrove_rules.py")
GOAL = 0.999
CHAIN = ("gopher_repetition", "gopher_quality", "c4_fineweb")

QUALITY = {
    "gopher_short_doc": "gopher_n_words",
    "gopher_long_doc": "gopher_n_words",
    "gopher_below_avg_threshold": "gopher_mean_word_length",
    "gopher_above_avg_threshold": "gopher_mean_word_length",
    "gopher_too_many_hashes": "gopher_hash_ratio",
    "gopher_too_many_ellipsis": "gopher_ellipsis_ratio",
    "gopher_too_many_bullets": "gopher_bullet_line_share",
    "gopher_too_many_end_ellipsis": "gopher_ellipsis_line_share",
    "gopher_below_alpha_threshold": "gopher_alphabetic_word_share",
    "gopher_enough_stop_words": "gopher_n_stop_words",
}
REPETITION = {
    "dup_para_frac": "repeated_paragraph_share",
    "dup_para_char_frac": "repeated_paragraph_character_share",
    "dup_line_frac": "repeated_line_share",
    "dup_line_char_frac": "repeated_line_character_share",
    **{f"top_{n}_gram": f"top_{n}_gram_share" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"repeated_{n}_gram_share" for n in range(5, 11)},
}
C4 = {
    "lorem_ipsum": "c4_has_lorem_ipsum",
    "curly_bracket": "c4_has_curly_bracket",
    "too_few_sentences": "c4_n_sentences",
}
FINEWEB = {
    "line_punct_ratio": "fineweb_terminal_line_share",
    "short_line_ratio": "fineweb_short_line_share",
    "char_dup_ratio": "fineweb_repeated_line_character_share",
    "list_ratio": "fineweb_newline_ratio",
}
COLUMNS = {**QUALITY, **REPETITION, **C4, **FINEWEB, "empty": "n_words"}
"""datatrove's reasons, and the column that Prill's rule of the same meaning looks at."""

SPECS: dict[str, dict[str, Any]] = {
    "gopher_repetition": {"presets": ("gopher_repetition",)},
    "gopher_quality": {"presets": ("gopher_quality",)},
    "fineweb": {"presets": ("fineweb",)},
    "c4": {"presets": ("c4",), "c4": {"is_published": True}},
    "c4_fineweb": {"presets": ("c4",), "c4": {"is_published": True, "ends_required": False}},
    "chain": {"presets": ("fineweb_datatrove",)},
}


@dataclass
class Outcome:
    """What one filter says: for each document the column of the first rule that holds, and the text left."""

    columns: list[str]
    texts: list[str]
    cpu_s: float


def main() -> None:
    """Judge on both sides and print the table."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        peer = _peer(args, args.keep or Path(scratch) / "peer.parquet")
    if peer is None:
        print("skipped: PRILL_PEER_DATATROVE is not set and --peer-results is not given")
        return
    texts = _texts(args.corpus, peer)
    print(f"{len(texts):,} documents, {sum(map(len, map(str.encode, texts))) / 1e6:.1f} MB\n")
    print("| filter | same verdict | share | same reason of both drops | same text of both kept | CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    differing: list[str] = []
    is_good = True
    for name, spec in SPECS.items():
        rules = Rules.of(RulesSpec(**({"words": "spacy"} | spec)))
        outcome = _judge(rules, texts)
        line, share = _compare(name, outcome, peer, differing, args.shown)
        is_good &= share >= GOAL
        print(line, flush=True)
    print(_costs(peer))
    print(f"Prill's English splitter alone: {_splitting(texts):.0f} MB a CPU second")
    print("\n".join(["", *differing]))
    print(f"\ngoal of {GOAL:.1%} the same for each: {'met' if is_good else 'MISSED'}")


def _compare(name: str, ours: Outcome, peer: pa.Table, differing: list[str], shown: int) -> tuple[str, float]:
    """The row of one filter; appends a line for each document that differs."""
    theirs = peer[name].to_pylist()
    same = [(not column) == (not reason) for column, reason in zip(ours.columns, theirs, strict=True)]
    both = [(c, COLUMNS[r]) for c, r in zip(ours.columns, theirs, strict=True) if c and r in COLUMNS]
    n_alike = sum(c == r for c, r in both)
    text = "-"
    if name.startswith("c4"):
        left = peer[f"{name}_text"].to_pylist()
        kept = [i for i, (c, r) in enumerate(zip(ours.columns, theirs, strict=True)) if not c and not r]
        n_same = sum(ours.texts[i] == left[i] for i in kept)
        text = f"{n_same:,} of {len(kept):,}"
        differing += [f"{name}: another text: {_place(peer, i)}" for i in kept if ours.texts[i] != left[i]][
            :shown
        ]
    for i in [i for i, is_same in enumerate(same) if not is_same][:shown]:
        differing.append(
            f"{name}: {_place(peer, i)}: Prill {ours.columns[i] or 'keeps'}, datatrove {theirs[i] or 'keeps'}"
        )
    share = sum(same) / len(same)
    cells = [
        name,
        f"{sum(same):,} of {len(same):,}",
        f"{share:.4%}",
        f"{n_alike:,} of {len(both):,}",
        text,
        f"{ours.cpu_s:.1f}",
    ]
    return "| " + " | ".join(cells) + " |", share


def _place(peer: pa.Table, i: int) -> str:
    return f"{peer['file'][i].as_py()} row {peer['row'][i].as_py()}"


def _judge(rules: Rules, texts: list[str]) -> Outcome:
    """Verdicts of Prill's rules, in batches as a pipeline makes them."""
    columns: list[str] = []
    left: list[str] = []
    by_reason = {rule.reason: rule.column for rule in rules.table}
    rules(_batch(["Load the kernels."]))
    begin = time.process_time()
    for part in _parts(texts):
        batch = _batch(part)
        table = pa.table(rules(batch))
        found = np.full(len(part), "", dtype=object)
        for reason, holds in rules.drops(table).items():
            found[holds & (found == "")] = by_reason[reason]
        columns += found.tolist()
        edits = rules.edits(table)
        left += (edited(batch.columns["text"], [edits]) if edits else batch.columns["text"]).to_pylist()
    return Outcome(columns=columns, texts=left, cpu_s=time.process_time() - begin)


def _splitting(texts: list[str]) -> float:
    """Megabytes of text that the splitter cuts in a CPU second."""
    batches = [text_buffers(pa.array(part, pa.large_string())) for part in _parts(texts)]
    begin = time.process_time()
    for offsets, data in batches:
        split_english(offsets, data)
    return sum(len(data) for _, data in batches) / 1e6 / (time.process_time() - begin)


def _parts(texts: list[str]) -> Iterator[list[str]]:
    part, n_characters = [], 0
    for text in texts:
        part.append(text)
        n_characters += len(text)
        if n_characters > 4_000_000:
            yield part
            part, n_characters = [], 0
    if part:
        yield part


def _batch(texts: list[str]) -> Batch:
    return Batch(shard=0, first_row=0, columns={"text": pa.array(texts, pa.large_string())})


def _texts(corpus: Path, peer: pa.Table) -> list[str]:
    """The texts that the peer judged, in its order."""
    texts: list[str] = []
    held: dict[str, list[str]] = {}
    for file, row in zip(peer["file"].to_pylist(), peer["row"].to_pylist(), strict=True):
        if file not in held:
            held = {file: pq.read_table(corpus / file, columns=["text"])["text"].to_pylist()}
        texts.append(held[file][row] or "")
    return texts


def _peer(args: argparse.Namespace, out: Path) -> pa.Table | None:
    """The peer's verdicts, made now or before; the CPU seconds lie in the metadata."""
    if args.peer_results is None:
        python = os.environ.get("PRILL_PEER_DATATROVE")
        if not python:
            return None
        command = [python, str(PEER), str(args.corpus), str(out), "--every", str(args.every)]
        subprocess.run(command, check=True)
        return pq.read_table(out)
    is_folder = args.peer_results.is_dir()
    files = sorted(args.peer_results.glob("*.parquet")) if is_folder else [args.peer_results]
    tables = [pq.read_table(file) for file in files]
    costs: dict[str, float] = {}
    for table in tables:
        for name, seconds in json.loads(table.schema.metadata[b"cpu_s"]).items():
            costs[name] = costs.get(name, 0.0) + seconds
    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return table.replace_schema_metadata({"cpu_s": json.dumps(costs)})


def _costs(peer: pa.Table) -> str:
    costs = json.loads(peer.schema.metadata[b"cpu_s"])
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in costs.items())
    return f"\ndatatrove's CPU seconds (a filter that sees a text again finds its words cached): {seconds}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="shared")
    parser.add_argument("--every", type=int, default=1, help="only each n-th document of a file")
    parser.add_argument("--peer-results", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--shown", type=int, default=20, help="documents named for each filter")
    args = parser.parse_args()
    if args.corpus == "shared" and "PRILL_SHARED_DATA" not in os.environ:
        sys.exit("PRILL_SHARED_DATA is not set: name a folder of Parquet files with --corpus")
    shared = Path(os.environ.get("PRILL_SHARED_DATA", "")) / "corpus"
    args.corpus = shared if args.corpus == "shared" else Path(args.corpus)
    return args


if __name__ == "__main__":
    main()
