"""Rating through an endpoint: a real server that is good, slow, wrong, huge or never there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from prill.corpus.tokenizer import train_bpe
from prill.errors import RecipeError, ResourceError
from prill.features.asking.answers import Answers, Budget
from prill.features.asking.asker import Asker
from prill.features.asking.endpoint import Endpoint
from prill.features.rater.rater import EndpointRater, open_rater
from prill.features.rater.rubric import get_rubric
from rating_server import RatingServer, Reply, dataman_answer

EDU, DATAMAN = get_rubric("fineweb_edu"), get_rubric("dataman")
assert EDU is not None
assert DATAMAN is not None
KEY = "k-0d3adb33f0123"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(train_bpe(["some words to learn from"] * 3, 300))
    return path


@pytest.fixture
def server() -> Iterator[RatingServer]:
    made = RatingServer(lambda message: f"Reasons.\nScore: {message.count('good')}")
    yield made
    made.close()


@pytest.fixture
def rate(tokenizer: Path, tmp_path: Path) -> Callable[..., Any]:
    def rated(server: RatingServer, texts: list[str], rubric: Any = EDU, **changes: Any) -> Any:
        with open_rater(
            rubric,
            server.spec(**changes),
            base=tmp_path,
            digest="",
            tokenizer=tokenizer,
            cache=tmp_path / "cache",
        ) as rater:
            return rater.rate(texts), rater.spent

    return rated


def quick(server: RatingServer, tokenizer: Path, folder: Path, **changes: Any) -> EndpointRater:
    """A rater that does not wait between attempts."""
    spec = server.spec(**changes)
    asker = Asker(
        endpoint=Endpoint(spec=spec.endpoint, sleep=lambda s: None),
        answers=Answers(folder / "answers.jsonl"),
        budget=Budget(),
    )
    return EndpointRater(rubric=EDU, spec=spec, ask=asker, tokenizer=tokenizer)


def test_documents_are_rated_in_order_a_few_at_a_time(server: RatingServer, rate: Any) -> None:
    def answer(message: str) -> str:
        time.sleep(0.1 * ("bad" in message))  # the first comes back late
        return f"Score: {message.count('good')}"

    server.answer = answer
    texts = ["bad", *["good " * (n % 5) + f"text {n}" for n in range(1, 24)]]
    found, spent = rate(server, texts, n_parallel=3)
    assert [int(r.scores[0]) for r in found] == [0, *[n % 5 for n in range(1, 24)]]
    assert 2 <= server.most_at_once <= 3
    assert spent == {"n_requests": 24, "n_tokens": 24 * 16}
    assert server.requests[0]["temperature"] == 0
    assert "<text>\nbad\n</text>" in {r["messages"][1]["content"] for r in server.requests}


def test_nobody_pays_twice(server: RatingServer, rate: Any) -> None:
    assert [r.scores for r in rate(server, ["good"] * 9)[0]] == [(1.0,)] * 9
    assert len(server.requests) == 1
    server.requests.clear()
    texts = [f"a good text {n}" for n in range(6)]
    first, _ = rate(server, texts[:4])
    again, spent = rate(server, texts)
    assert len(server.requests) == 6
    assert spent["n_requests"] == 2
    assert again[:4] == first
    rate(server, texts, model="another")
    assert len(server.requests) == 12  # another model is asked anew


def test_another_rubric_is_another_question(server: RatingServer, rate: Any) -> None:
    rate(server, ["one text"])
    server.answer = lambda message: dataman_answer("C", (2,) * 14)
    found, _ = rate(server, ["one text"], rubric=DATAMAN)
    assert (found[0].label, found[0].scores) == ("C", (2.0,) * 14)
    assert len(server.requests) == 2


def test_nonsense_is_counted_and_kept_short(server: RatingServer, rate: Any) -> None:
    server.answer = lambda message: "<script>alert(1)</script>" * 5_000 if "evil" in message else "Score: 2"
    found, _ = rate(server, ["evil text", "a text", " \n"])
    assert [r.why_not for r in found] == ["no score", "", "no text"]
    assert len(found[0].raw) <= 2_000
    assert len(server.requests) == 2  # a document without text is not sent


def test_a_busy_server_is_asked_again(server: RatingServer, tokenizer: Path, tmp_path: Path) -> None:
    server.script = [Reply(status=429, headers={"Retry-After": "1"}), Reply(status=503), Reply("Score: 5")]
    found = quick(server, tokenizer, tmp_path, n_parallel=1).rate(["text"])
    assert found[0].scores == (5.0,)
    assert len(server.requests) == 3


def test_a_server_that_always_fails_is_named_and_answers_before_it_are_kept(
    server: RatingServer, tokenizer: Path, tmp_path: Path
) -> None:
    server.script = [Reply("Score: 1"), *[Reply(status=500, content=b"broken <b>")] * 50]
    rater = quick(server, tokenizer, tmp_path, n_parallel=1, max_retries=2)
    with pytest.raises(ResourceError) as found:
        rater.rate([f"text {n}" for n in range(40)])
    assert f"127.0.0.1:{server.http.server_address[1]}" in str(found.value)
    assert "500 after all attempts" in str(found.value)
    assert len(server.requests) <= 1 + 2 * 3  # the failed one, and one that may have been begun
    assert len(Answers(tmp_path / "answers.jsonl")) == 1


@pytest.mark.parametrize(
    "reply",
    [Reply("Score: 1", wait_s=2.0), Reply("Score: 1", pieces=60), Reply("Score: 1", slow_head=True)],
)
def test_a_server_that_never_answers_ends_within_its_time(
    server: RatingServer, tokenizer: Path, tmp_path: Path, reply: Reply
) -> None:
    server.script = [reply] * 5
    rater = quick(server, tokenizer, tmp_path, n_parallel=1, max_retries=1, timeout_s=0.2)
    start = time.monotonic()
    with pytest.raises(ResourceError, match="none after 2 attempts") as found:
        rater.rate(["text"])
    assert "127.0.0.1" in str(found.value)
    assert time.monotonic() - start < 1.5


def test_nobody_at_the_address_is_named(server: RatingServer, tokenizer: Path, tmp_path: Path) -> None:
    rater = quick(server, tokenizer, tmp_path, max_retries=1)
    server.http.server_close()
    server.http.shutdown()
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1"):
        rater.rate(["text"])


def test_an_address_that_does_not_speak_tls_is_named(
    server: RatingServer, tokenizer: Path, tmp_path: Path
) -> None:
    address = f"https://127.0.0.1:{server.http.server_address[1]}/v1"
    with pytest.raises(ResourceError, match=r"https://127\.0\.0\.1.*none after 2 attempts"):
        quick(server, tokenizer, tmp_path, max_retries=1, base_url=address).rate(["text"])
    assert server.requests == []


@pytest.mark.parametrize("content", [b"", b"not JSON", b"{}", b'{"choices": [{"message": {"content": 3}}]}'])
def test_what_is_no_chat_answer_is_an_error(
    server: RatingServer, tokenizer: Path, tmp_path: Path, content: bytes
) -> None:
    server.script = [Reply(content=content)]
    with pytest.raises(ResourceError, match="chat completion"):
        quick(server, tokenizer, tmp_path).rate(["text"])


def test_an_answer_cut_on_its_way_is_asked_again(
    server: RatingServer, tokenizer: Path, tmp_path: Path
) -> None:
    server.script = [Reply(content=b'{"choices"', headers={"Content-Length": "500"}), Reply("Score: 4")]
    assert quick(server, tokenizer, tmp_path, n_parallel=1).rate(["text"])[0].scores == (4.0,)


def test_huge_answers_do_not_fill_the_cache(server: RatingServer, rate: Any, tmp_path: Path) -> None:
    server.answer = lambda message: "word " * 200_000 + "Score: 5"
    found, _ = rate(server, ["text"])
    assert found[0].scores is None
    assert sum(file.stat().st_size for file in (tmp_path / "cache").iterdir()) < 50_000
    server.script = [Reply(content=b" " * (9 << 20))]
    with pytest.raises(ResourceError, match="8388608 bytes"):
        rate(server, ["another text"])


def test_a_spent_budget_stops_and_says_so(server: RatingServer, rate: Any) -> None:
    texts = [f"text {n}" for n in range(8)]
    with pytest.raises(ResourceError) as found:
        rate(server, texts, max_requests=3, n_parallel=1)
    assert "within 3 requests" in str(found.value)
    assert "not paid for again" in str(found.value)
    assert len(server.requests) == 3
    found_now, spent = rate(server, texts, max_requests=5)
    assert spent["n_requests"] == 5
    assert len(found_now) == 8
    with pytest.raises(ResourceError, match="within 40 tokens"):
        rate(server, ["new"], max_tokens=40)
    assert len(server.requests) == 8


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    server: RatingServer, rate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="RATER_TEST_KEY"):
        rate(server, ["text"], key_variable="RATER_TEST_KEY")
    monkeypatch.setenv("RATER_TEST_KEY", KEY)
    rate(server, ["text"], key_variable="RATER_TEST_KEY")
    assert server.keys == [f"Bearer {KEY}"]
    server.script = [Reply(status=401, content=f"bad key {KEY}".encode())]
    with pytest.raises(RecipeError) as found:
        rate(server, ["other"], key_variable="RATER_TEST_KEY")
    assert KEY not in str(found.value)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


def test_what_decides_a_rating_is_told_apart_from_how_it_is_had(server: RatingServer) -> None:
    one = server.spec(key_variable="A", timeout_s=1, max_requests=5, n_parallel=2)
    other = server.spec(key_variable="B", timeout_s=9, max_tokens=70)
    assert one.decides == other.decides
    assert one.decides != server.spec(temperature=1.0).decides
    assert b"key" not in orjson.dumps(one.decides)
