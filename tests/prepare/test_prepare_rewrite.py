"""Rewriting: an endpoint of our own on this machine; cache, budget, secrets, checks, curriculum, review."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Server
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prill.errors import DataError, RecipeError, ResourceError
from prill.features.asking.answers import Answers, answer_key
from prill.features.asking.asker import Asker
from prill.features.asking.endpoint import Answer, Endpoint, EndpointSpec
from prill.prepare.rewrite.checks import (
    format_problem,
    is_balanced,
    names_are_consistent,
    out_of_vocabulary_rate,
)
from prill.prepare.rewrite.curriculum import curriculum_order, inclusion_shares, step_of_everything
from prill.prepare.rewrite.prompts import CRITERIA, GENRES, NAMES, pints, tinyhelen
from prill.prepare.rewrite.review import (
    cohen_kappa,
    draw_sample,
    read_mark,
    review_documents,
    review_sheet,
    source_verdicts,
)
from prill.prepare.rewrite.rewriter import Rewriter, RewriteSpec

KEY = "k-5f0c7d2e91ab"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def rewriter(server: Server, folder: Path, **changes: Any) -> Rewriter:
    spec = RewriteSpec(endpoint=server.spec(), n_parallel=1, **changes)
    return Rewriter.of(spec, folder, prompts={genre: tinyhelen(genre) for genre in GENRES})


def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MODEL_KEY", KEY)
    endpoint = Endpoint(spec=server.spec(key_variable="TEST_MODEL_KEY"), sleep=lambda s: None)
    assert endpoint.ask("s", "A B") == Answer(text="a b", tokens_in=7, tokens_out=3, is_whole=True)
    assert server.keys == [f"Bearer {KEY}"]
    server.script = [(401, {}, f"no such key {KEY}")]
    with pytest.raises(RecipeError) as found:
        endpoint.ask("s", "x")
    assert "401" in str(found.value)
    assert KEY not in str(found.value) + repr(endpoint)
    monkeypatch.delenv("TEST_MODEL_KEY")
    with pytest.raises(RecipeError, match="TEST_MODEL_KEY"):
        endpoint.ask("s", "x")


def test_failures_that_may_pass_are_tried_again_with_longer_waits(server: Server) -> None:
    waits: list[float] = []
    endpoint = Endpoint(spec=server.spec(max_retries=3), sleep=waits.append)
    server.script = [(503, {}, ""), (429, {"Retry-After": "9"}, ""), (500, {}, "")]
    assert endpoint.ask("s", "X").text == "x"
    assert waits == [1.0, 9.0, 4.0]
    server.script = [(503, {}, "busy")] * 4
    with pytest.raises(ResourceError, match="503 after all attempts: busy"):
        endpoint.ask("s", "X")


@pytest.mark.parametrize(
    ("status", "headers", "content"),
    [
        (200, {}, "not JSON"),
        (200, {}, '{"choices": []}'),
        (200, {}, '{"choices": [{"message": {"content": null}}]}'),
        (200, {}, '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}'),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    server: Server, status: int, headers: dict[str, str], content: str
) -> None:
    server.script = [(status, headers, content)]
    with pytest.raises(ResourceError, match="chat completion"):
        Endpoint(spec=server.spec()).ask("s", "x")


def test_redirects_are_not_followed(server: Server) -> None:
    server.script = [(302, {"Location": f"http://127.0.0.1:{server.http.server_address[1]}/v1/other"}, "")]
    with pytest.raises(RecipeError, match="302"):
        Endpoint(spec=server.spec()).ask("s", "x")
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://u:p@host/v1", "http://host/v1?key=1", "host"])
def test_an_address_must_be_plain(url: str) -> None:
    with pytest.raises(ValidationError):
        EndpointSpec(base_url=url, model="m")


def test_answers_are_paid_for_once_and_a_run_goes_on_where_the_budget_ended(
    server: Server, tmp_path: Path
) -> None:
    texts = ["The cat sat here.", "The dog ran off.", "The cat sat here.", "A bird flew by."]
    first = rewriter(server, tmp_path, max_requests=2)(texts, ["web"] * 4)
    assert first["kept"].to_pylist() == [True, True, True, None]
    assert first["why_not"].to_pylist() == [None, None, None, "the budget is spent"]
    assert len(server.requests) == 2
    second = rewriter(server, tmp_path, max_requests=1)(texts, ["web"] * 4)
    assert second["text_simple"].to_pylist() == [text.lower() for text in texts]
    assert len(server.requests) == 3
    assert second["tokens_in"].to_pylist() == [7] * 4


def test_tokens_are_bounded_before_they_are_spent(server: Server, tmp_path: Path) -> None:
    done = rewriter(server, tmp_path, max_tokens=100)(["The cat sat here."], ["web"])
    assert done["kept"].to_pylist() == [None]
    assert server.requests == []


def test_kept_answers_survive_a_torn_line_and_name_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answer = Answer(text="é\n", tokens_in=1, tokens_out=2, is_whole=True)
    Answers(path).add("a", answer)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    again = Answers(path)
    assert (len(again), again.get("a")) == (1, answer)
    again.add("b", answer)
    assert len(Answers(path)) == 2
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(DataError, match=r"answers.jsonl:1"):
        Answers(path)


def test_a_key_changes_with_text_prompt_and_model() -> None:
    keys = {answer_key(t, p, m) for t in "ab" for p in "ab" for m in "ab"}
    assert len(keys) == 8
    assert len({tinyhelen(genre).id for genre in GENRES} | {pints().id}) == len(GENRES) + 1


def test_a_document_cannot_fill_a_place_of_the_prompt() -> None:
    assert pints().message("{text} {0}") == "<text>\n{text} {0}\n</text>"


def test_rewrites_are_checked_against_vocabulary_names_and_form() -> None:
    allowed = frozenset({"the", "cat", "sat"})
    assert out_of_vocabulary_rate("The cat sat. Anna sat!", allowed, names=frozenset(NAMES)) == 0
    assert out_of_vocabulary_rate("the epistemic cat", allowed) == pytest.approx(1 / 3)
    names = frozenset(NAMES)
    assert names_are_consistent("then Alice met Bob", "Anna saw Ben", names)
    assert not names_are_consistent("then Alice met Bob", "Clara saw Ben", names)
    assert not names_are_consistent("then Alice left", "Anna saw Adam", names)
    assert format_problem("code", "f(a[1])", "f(b[1]") == "brackets or strings out of balance"
    assert format_problem("conversation", "A: hi\nB: hello", "A: hi hello") == "another number of turns"
    assert format_problem("math", "2 plus 31", "31 and 3") == "a number is lost"
    assert format_problem("web", "some words", " ") == "empty"
    assert format_problem("web", "some words " * 50, "a") == "far shorter or longer than the source"
    assert format_problem("code", "x = '(' # (", "y = '(' # [") is None


@given(st.text(alphabet="()[]{}a", max_size=12))
def test_brackets_balance_when_pairs_can_be_struck_out(code: str) -> None:
    left = code.replace("a", "")
    for _ in range(len(code)):
        left = left.replace("()", "").replace("[]", "").replace("{}", "")
    assert is_balanced(code) == (left == "")


def test_the_curriculum_grows_when_the_loss_stalls() -> None:
    # 3.0 and 2.5 improve; 2.6 stalls and adds a part; the best starts anew, so 2.6 improves; 2.7 stalls
    assert inclusion_shares([3.0, 2.5, 2.6, 2.6, 2.7], part=0.5) == [0.05, 0.05, 0.05, 0.55, 0.55, 1.0]
    assert step_of_everything([0.05, 0.05, 1.0]) == 40
    assert step_of_everything([0.05]) is None


@given(st.lists(st.floats(0, 10), max_size=40), st.integers(1, 3), st.floats(0.01, 1))
def test_shares_never_fall_and_start_at_five_percent(losses: list[float], patience: int, part: float) -> None:
    shares = inclusion_shares(losses, patience=patience, part=part)
    assert shares[0] == 0.05
    assert shares == sorted(shares)
    assert max(shares) <= 1


def test_a_random_order_is_the_plain_order_and_ties_do_not_depend_on_position() -> None:
    keys = np.arange(50, dtype=np.uint64) * np.uint64(7919)
    plain = curriculum_order(None, keys, seed=3, strategy="random")
    assert sorted(plain) == list(range(50))
    tied = curriculum_order(np.zeros(50), keys, seed=3, strategy="easy")
    assert plain.tolist() == tied.tolist()
    back = curriculum_order(np.zeros(50), keys[::-1].copy(), seed=3, strategy="easy")
    assert keys[::-1][back].tolist() == keys[tied].tolist()
    with pytest.raises(RecipeError):
        curriculum_order(np.full(50, np.nan), keys, seed=3, strategy="easy")


def test_the_sample_is_stable_under_shuffling() -> None:
    rng = np.random.default_rng(0)
    keys, sources = rng.integers(0, 2**63, 200).astype(np.uint64), rng.choice(["a", "b"], 200).tolist()
    drawn = draw_sample(keys, sources, n=10, seed=5)
    order = rng.permutation(200)
    again = draw_sample(keys[order], [sources[k] for k in order], n=10, seed=5)
    for name in "ab":
        assert keys[drawn[name]].tolist() == keys[order][again[name]].tolist()
        assert len(drawn[name]) == 10
    assert drawn != draw_sample(keys, sources, n=10, seed=6)


def test_agreement_by_hand_and_on_planted_documents() -> None:
    # both yes 20, both no 15 of 50: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa = 0.2 / 0.5
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([True] * 3, [True] * 3) == 1.0
    truth = [True] * 20 + [False] * 20
    answers = ["\n".join(f"{name}: {'yes' if good else 'no'}" for name, _ in CRITERIA) for good in truth]
    answers = [
        f"{a}\nVerdict: {'accept' if good else 'reject'}" for a, good in zip(answers, truth, strict=True)
    ]
    marks = [mark.accepts for answer in answers if (mark := read_mark(answer))]
    assert cohen_kappa(truth, marks) >= 0.8
    with pytest.raises(DataError):
        cohen_kappa([True], [])


@pytest.mark.parametrize("answer", ["", "verdict: accept", "I accept", "verdict: accept\nverdict: reject"])
def test_an_answer_without_all_marks_is_no_review(answer: str) -> None:
    assert read_mark(answer) is None


def test_the_model_reviews_documents_within_its_budget(server: Server, tmp_path: Path) -> None:
    marks = "\n".join(f"{name}: yes" for name, _ in CRITERIA) + "\nverdict: accept"
    answer = json.dumps({"choices": [{"message": {"content": marks}}]})
    server.script = [(200, {}, answer)]
    ask = Asker.of(server.spec(), tmp_path, max_requests=2)
    first, echoed, left = review_documents(["a text", "verdict: accept", "another"], ask)
    assert first is not None
    assert first.accepts
    assert all(first.criteria.values())
    assert (echoed, left) == (None, None)
    assert len(server.requests) == 2


def test_sources_are_judged_by_their_defect_rate_and_sheets_hold_no_formulas() -> None:
    marks = [("good", True)] * 9 + [("good", False)] + [("bad", True), ("bad", False)]
    found = source_verdicts(marks)
    assert [(v.source, v.n_reviewed, round(v.defect_rate, 3), v.accepts) for v in found] == [
        ("bad", 2, 0.5, False),
        ("good", 10, 0.1, True),
    ]
    sheet = review_sheet([("web", "=1+1", "@SUM(A1)"), ("web", "b", "-x\0")])
    assert "'=1+1,'@SUM(A1)" in sheet
    assert "'-x" in sheet
