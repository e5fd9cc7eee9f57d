"""Rating with a local model: by its answer and by likelihood, with the library's models and our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pool_of import TARGETS, resolve
from prill.corpus.columns import read_columns, read_infos
from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.errors import DataError, printable
from prill.features.asking.answers import Answers
from prill.features.rated import rated_by, rates_all
from prill.features.rater.local_model import ModelRater, distinct_tokens, expected_grade
from prill.features.rater.reading import LONGEST_RAW
from prill.features.rater.rubric import Rubric, Slot, get_rubric
from prill.features.rater.spec import ModelRaterSpec, digest_of
from prill.features.ratings import Ratings
from prill.lm.checkpoint import save_model
from prill.lm.model import StackedLlama
from prill.lm.scoring.next_token import open_next_token
from prill.lm.shape import Shape

RUBRIC = Rubric.model_validate(
    {"name": "tiny", "system": "Grade it.", "scales": [{"name": "a", "low": 0, "high": 3}, {"name": "b"}]}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama of the library, beside a byte-level tokenizer."""
    import transformers

    made = tmp_path_factory.mktemp("model")
    _write_tokenizer(made)
    config = transformers.LlamaConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of our own."""
    made = tmp_path_factory.mktemp("proxy")
    _write_tokenizer(made)
    shape = Shape(vocab_size=320, d_model=32, n_layers=1, n_heads=2, d_ff=48, seq_len=512)
    save_model(made, StackedLlama.init(shape, [3]), 0)
    return made


def _write_tokenizer(folder: Path) -> None:
    content = train_bpe(["Grade it. a: 1 b: 2 Answer: some words to learn from 0 3 4 5"] * 3, 300)
    (folder / "tokenizer.json").write_bytes(content)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')


def rater(folder: Path, rubric: Rubric = RUBRIC, *, cache: Path | None = None, **spec: Any) -> ModelRater:
    said = ModelRaterSpec(folder=str(folder), **spec)
    answers = None if cache is None else Answers(cache / "answers.jsonl")
    return ModelRater(rubric, said, folder, digest_of(said, folder), answers)


def library_log_probs(folder: Path, tokens: list[int]) -> np.ndarray[Any, Any]:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=0).numpy()


def test_the_next_token_is_the_librarys_with_and_without_what_is_kept(folder: Path) -> None:
    model = open_next_token(folder)
    tokens = [5, 9, 17, 30, 41]
    for stop in (2, 3, 5, 4):  # grows, grows, and starts again
        np.testing.assert_allclose(model(tokens[:stop]), library_log_probs(folder, tokens[:stop]), atol=2e-5)
    assert model.n_flops > 0


def test_an_own_model_gives_probabilities_too(proxy: Path) -> None:
    found = open_next_token(proxy)([0, 7, 9])
    assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-5)


def test_likelihood_is_the_expected_grade_under_the_model(folder: Path) -> None:
    # By hand with the library: the prompt, "a:", four options; the likeliest of them, "\nb:", five options.
    tokenizer = load_tokenizer(folder / "tokenizer.json")

    def ids(text: str) -> list[int]:
        return [int(i) for i in tokenizer.encode_batch([text])[0]]

    before, behind = "Grade it.\n\n<text>\n", "\n</text>\n\nAnswer:\n"
    at = [0, *ids(before), *ids("some words"), *ids(behind)]
    expected = []
    for prefix, grades in (("a:", range(4)), ("\nb:", range(1, 6))):
        options = [ids(f" {grade}") for grade in grades]
        n_common = 1 if len({o[0] for o in options}) == 1 and len(options[0]) > 1 else 0
        at += ids(prefix) + options[0][:n_common]
        told = [o[n_common] for o in options]
        p = np.exp(library_log_probs(folder, at)[told].astype(np.float64))
        expected.append(float((p * np.array(grades)).sum() / p.sum()))
        at.append(told[int(p.argmax())])
    found = rater(folder, answer="likelihood").rate(["some words"])
    assert found[0].scores == pytest.approx(tuple(expected), abs=1e-4)
    assert found[0].why_not == ""


def test_a_form_with_labels_is_filled_by_either_kind_of_model(folder: Path, proxy: Path) -> None:
    asked = Rubric.model_validate(
        {
            "name": "labels",
            "system": "Grade it.",
            "layout": "lines",
            "labels": [{"letter": x, "name": f"kind {x}"} for x in "ABC"],
            "scales": [{"name": "a"}, {"name": "b"}],
        }
    )
    for where in (folder, proxy):
        found = rater(where, asked, answer="likelihood").rate(["some words", "a text"])
        assert all(r.label in "ABC" for r in found)
        assert all(1 <= x <= 5 for r in found for x in r.scores or ())
        assert found == rater(where, asked, answer="likelihood").rate(["some words", "a text"])


def test_what_a_model_writes_is_the_librarys_greedy_answer(folder: Path) -> None:
    import transformers

    tokenizer = load_tokenizer(folder / "tokenizer.json")
    prompt = [0]
    for part in ("Grade it.\n\n<text>\n", "some words", "\n</text>\n\nAnswer:\n"):
        prompt += [int(i) for i in tokenizer.encode_batch([part])[0]]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    written = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=9,
        do_sample=False,
        pad_token_id=0,
    )[0, len(prompt) :]
    said = tokenizer.decode(written.numpy())
    found = rater(folder, max_answer_tokens=9).rate(["some words"])[0]
    assert found.scores is None  # a random model answers nonsense, which is counted
    assert found.why_not == "no number for a"
    assert found.raw == printable(said, limit=LONGEST_RAW)


def test_answers_are_kept_and_not_asked_again(folder: Path, tmp_path: Path) -> None:
    first = rater(folder, answer="likelihood", cache=tmp_path).rate(["some words"])
    again = rater(folder, answer="likelihood", cache=tmp_path)
    assert again.rate(["some words"]) == first
    assert again.n_flops == 0
    other = rater(folder, answer="generate", cache=tmp_path)
    other.rate(["some words"])
    assert other.n_flops > 0


def test_a_long_document_fits_the_context(folder: Path) -> None:
    found = rater(folder, answer="likelihood").rate(["some words " * 5_000, ""])
    assert found[0].scores is not None
    assert found[1].why_not == "no text"


def test_a_context_too_short_for_the_rubric_is_an_error_with_the_number_that_would_do(folder: Path) -> None:
    asked = get_rubric("dataman")
    assert asked is not None
    with pytest.raises(DataError, match=r"at least \d+ tokens.*dataman.*512"):
        rater(folder, asked, answer="likelihood").rate(["some words"])


def test_a_tokenizer_that_cannot_tell_options_apart_is_an_error() -> None:
    slot = Slot(name="a", prefix="", options=("1", "2"))
    assert distinct_tokens([[7, 1], [7, 2]], slot) == ([7], [1, 2])
    with pytest.raises(DataError, match="answer: generate"):
        distinct_tokens([[7], [7, 2]], slot)


def test_expected_grades_by_hand() -> None:
    # Shares 1/6, 2/6, 3/6 of the grades 1, 3, 5: (1 + 6 + 15) / 6.
    assert expected_grade(np.log([1.0, 2.0, 3.0]), [1, 3, 5]) == pytest.approx(22 / 6)
    assert expected_grade(np.array([-1e4, -1e4 + 50.0]), [0, 5]) == pytest.approx(5.0)


def test_a_model_that_brings_code_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own_thing", "auto_map": {"AutoModelForCausalLM": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(DataError, match="brings code of its own"):
        rater(tmp_path)


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a model"):
        rater(tmp_path / "none")


def test_a_chat_template_frames_the_document_which_cannot_leave_it(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}\n{% endfor %}answer:"
    with pytest.raises(DataError, match=r"chat_template\.jinja"):
        rater(tmp_path, template="chat")
    (tmp_path / "chat_template.jinja").write_text(template)
    made = rater(tmp_path, template="chat", answer="likelihood")
    tokens = made._prompt("some <|endoftext|> words")
    assert tokens.count(0) == 2  # the template's two, not the document's
    assert made.rate(["some words"])[0].scores is not None


def test_a_model_rates_the_whole_pool_shard_by_shard_and_a_sample_alike(folder: Path, tmp_path: Path) -> None:
    texts = [f"some words {n}" for n in range(6)] + [""]
    spec = ModelRaterSpec(folder=str(folder), answer="likelihood")
    every, some = rates_all(RUBRIC, spec, tmp_path), rated_by(RUBRIC, spec, tmp_path, n_documents=4)
    assert isinstance(every, Ratings)
    assert every.sample is None
    features = resolve([every, some], texts, TARGETS, tmp_path)
    parts = features.done[every].parts
    found = pa.concat_tables([read_columns(part) for part in parts])
    grades = found["a"].to_numpy()
    assert np.isnan(grades[-1])
    assert found["why_not"].to_pylist()[-1] is not None
    assert ((grades[:-1] >= 0) & (grades[:-1] <= 3)).all()
    sampled = read_columns(features.done[some].parts[0])
    first = [0, len(read_columns(parts[0]))]
    for row in sampled.to_pylist():
        assert row["a"] == pytest.approx(grades[first[row["shard"]] + row["row"]], abs=1e-6)
    assert features.done[some].record.counts["n_rated"] == 4
    summary = read_infos(parts[0])["a"].summary
    assert f"the model {folder.name}, by likelihood" in summary
