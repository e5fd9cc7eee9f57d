"""`prill score`: a corpus under a model, from the command line to columns, with every kind of stop."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_study import hashes, prill

from prill.corpus.columns import read_columns, read_infos
from prill.corpus.spec import CorpusSpec
from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.errors import DataError, RecipeError
from prill.lm.scoring.windows import windows
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm.checkpoint import save_model  # noqa: E402
from prill.lm.hf import export_llama  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.pipeline.scoring import ScoredCorpus, score_corpus  # noqa: E402

CODE = "from prill.cli import main; main()"
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards")


def text(rng: random.Random, n_words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n_words))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ours, the same one exported, and a corpus with an empty, a tiny and a long document."""
    folder = tmp_path_factory.mktemp("scoring")
    rng = random.Random(0)
    texts = [text(rng, rng.randrange(1, 60)) for _ in range(90)] + ["", "x", text(rng, 400)]
    tokenizer = train_bpe(texts, 300)
    shape = Shape(
        vocab_size=load_tokenizer(tokenizer).vocab_size,
        d_model=16,
        n_layers=2,
        n_heads=2,
        d_ff=24,
        seq_len=32,
    )
    model = StackedLlama.init(shape, [0])
    model.flat += 0.1 * torch.randn(model.flat.shape, generator=torch.Generator().manual_seed(1))
    save_model(folder / "own", model, 0, {"label": "trial"})
    (folder / "tokenizer.json").write_bytes(tokenizer)
    export_llama(folder / "exported", model, 0, tokenizer_json=tokenizer)
    rows = [{"id": f"d{i}", "text": t} for i, t in enumerate(texts)]
    (folder / "pool").mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:50]), folder / "pool" / "a.parquet", row_group_size=10)
    (folder / "pool" / "b.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows[50:]))
    return folder


def run(place: Path, output: str, *, model: str = "exported", **changes: Any) -> ScoredCorpus:
    spec = CorpusSpec(paths=[str(place / "pool" / "*")], shard_bytes=1500)
    options: dict[str, Any] = {"n_workers": 1, "is_quiet": True, "precision": "fp32", **changes}
    return score_corpus(place / model, spec, output=place / output, **options)


def table(done: ScoredCorpus) -> pa.Table:
    return pa.concat_tables([read_columns(path) for path in done.parts])


@pytest.fixture(scope="module")
def whole(place: Path) -> ScoredCorpus:
    return run(place, "whole", model="own", tokenizer=place / "tokenizer.json", detail="moments")


def test_columns_equal_the_library_one_document_at_a_time(place: Path, whole: ScoredCorpus) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(place / "exported").eval()
    tokenizer = load_tokenizer(place / "tokenizer.json")
    rows = pq.read_table(place / "pool" / "a.parquet").to_pylist()
    rows += [orjson.loads(line) for line in (place / "pool" / "b.jsonl").read_bytes().splitlines()]
    found = table(whole).to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    for row, stored in zip(rows, found, strict=True):
        (doc,) = tokenizer.encode_batch([row["text"]])
        padded, logs = torch.tensor([tokenizer.eos_id, *doc.tolist()]), []
        for w in windows(len(doc), 32):
            with torch.no_grad():
                logits = theirs(padded[None, w.first : w.stop]).logits[0].double()
            every = torch.log_softmax(logits, 1).gather(1, padded[w.first + 1 : w.stop + 1, None])[:, 0]
            logs += every[w.scored - w.first :].tolist()
        assert stored["n_tokens"] == len(doc)
        assert stored["n_bytes"] == len(row["text"].encode())
        assert stored["nats"] == pytest.approx(-sum(logs), rel=1e-5)
        np.testing.assert_allclose(stored["token_log_prob"], logs, atol=1e-4)
        if len(doc):
            assert stored["bits_per_byte"] == pytest.approx(
                -sum(logs) / math.log(2) / stored["n_bytes"], rel=1e-5
            )
            assert stored["mean_log_prob"] == pytest.approx(np.mean(logs), rel=1e-5)
            assert stored["var_log_prob"] == pytest.approx(np.var(logs), rel=1e-3, abs=1e-6)


def test_an_empty_document_is_counted_and_has_no_rates(whole: ScoredCorpus) -> None:
    (empty,) = [row for row in table(whole).to_pylist() if row["n_bytes"] == 0]
    assert (empty["nats"], empty["n_tokens"], empty["token_rank"]) == (0.0, 0, [])
    assert empty["bits_per_byte"] is None
    assert empty["mean_log_prob"] is None
    assert whole.counts["n_empty"] == 1
    assert "1 documents without text" in whole.summary
    infos = read_infos(whole.parts[0])
    assert infos["nats"].direction == -1
    assert infos["token_log_prob"].unit == "nats"


def test_our_checkpoint_and_its_export_agree(place: Path, whole: ScoredCorpus) -> None:
    exported = run(place, "exported-run")
    np.testing.assert_allclose(
        table(exported)["nats"].to_numpy(), table(whole)["nats"].to_numpy(), rtol=1e-6, atol=1e-6
    )
    with pytest.raises(DataError, match="tokenizer that this model was trained with, found none"):
        run(place, "x", model="own")


SCRIPT = """
import sys
from pathlib import Path
from prill.corpus.spec import CorpusSpec
from prill.pipeline.scoring import score_corpus
place = Path(sys.argv[1])
spec = CorpusSpec(paths=[str(place / "pool" / "*")], shard_bytes=1500)
score_corpus(place / "own", spec, output=place / "killed", tokenizer=place / "tokenizer.json", n_workers=2,
             is_quiet=True, precision="fp32", detail="moments")
"""


def test_killed_again_and_again_two_workers_end_with_the_same_bytes(place: Path, whole: ScoredCorpus) -> None:
    script, output = place / "killed.py", place / "killed"
    script.write_text(SCRIPT)
    running = subprocess.Popen([sys.executable, str(script), str(place)])
    while running.poll() is None and len(list(output.glob("scores/part-*.parquet"))) < 2:
        time.sleep(0.002)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert len(list(output.glob("scores/part-*.parquet"))) < len(whole.parts)
    subprocess.run([sys.executable, str(script), str(place)], check=True)
    assert len(whole.parts) > 4
    assert hashes(output / "scores") == hashes(whole.folder / "scores")


def test_a_finished_run_is_kept_and_another_setting_is_refused(place: Path, whole: ScoredCorpus) -> None:
    before = [path.stat().st_mtime_ns for path in whole.parts]
    again: dict[str, Any] = {"model": "own", "tokenizer": place / "tokenizer.json", "detail": "moments"}
    assert run(place, "whole", **again).counts == whole.counts
    assert [path.stat().st_mtime_ns for path in whole.parts] == before
    with pytest.raises(RecipeError, match=r"score\.layout\.context"):
        run(place, "whole", **again, context=4)


def test_from_the_command_line_with_cut_documents_and_bad_records(place: Path, tmp_path: Path) -> None:
    lines = ['{"body": "the fox"}', '{"body": 7}', '{"body": "a lazy dog and a lazy fox and a lazy hen"}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    command = ["score", place / "own", tmp_path / "c.jsonl", "-o", tmp_path / "out", "-q", "-j", "1"]
    command += ["--tokenizer", place / "tokenizer.json", "--max-tokens", "10", "--text-field", "body"]
    told = prill(*command, "--quarantine", "--detail", "tokens").stdout
    (part,) = (tmp_path / "out" / "scores").iterdir()
    rows = read_columns(part).to_pylist()
    assert [row["nats"] is None for row in rows] == [False, True, False]
    assert rows[1]["bad"]
    assert rows[2]["is_truncated"]
    assert (rows[2]["n_tokens"], len(rows[2]["token_log_prob"]), rows[2]["bits_per_byte"]) == (10, 10, None)
    assert "2 documents under" in told
    assert "1 records that are no documents" in told
    assert "1 documents of which only the first tokens were scored" in told


def test_what_does_not_fit_together_is_one_clear_error(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a model"):
        run(place, "y", model="nowhere")
    wide = train_bpe([" ".join(f"word{i} word{i}" for i in range(400))], 900)
    (tmp_path / "tokenizer.json").write_bytes(wide)
    with pytest.raises(DataError, match=r"tokenizer of a model with \d+ token ids, found one with"):
        run(place, "y", model="own", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match="with its own tokenizer, found another one named"):
        run(place, "y", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(RecipeError, match="at most the 32 tokens of the model's context, found 33"):
        run(place, "y", max_len=33)
    with pytest.raises(RecipeError, match="must be 1 to its length 32, found 33"):
        run(place, "y", context=33)
    assert not (place / "y").exists()
