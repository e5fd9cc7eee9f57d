"""Models trained inside a run: what they read, that they learn it, and that killing one changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made_text import documents
from pool_of import resolve
from prill.errors import DataError, InternalError
from prill.features.proxies import MODEL_FILES, PoolSample, Proxy

pytest.importorskip("torch")

POOL = documents(60, seed=1) + documents(60, seed=2, kind="b")
TARGET = {"b": documents(30, seed=3, kind="b")}


def test_a_sample_is_keyed_bounded_and_known(tmp_path: Path) -> None:
    from prill.corpus.packed import open_packed

    sample = PoolSample(n_tokens=2000, longest=40, most_share=0.5)
    other = PoolSample(n_tokens=2000, longest=40, most_share=0.5, use="other")
    found = resolve([sample, other], POOL, TARGET, tmp_path)
    packed, second = (open_packed(found.done[feature].path) for feature in (sample, other))
    sizes = np.diff(packed.doc_starts)
    assert sizes.max() <= 41
    assert 2000 <= packed.n_tokens < 2000 + 41
    assert found.done[sample].record.counts == {"n_documents": packed.n_docs, "n_tokens": packed.n_tokens}
    chosen = {tuple(key) for key in packed.keys.tolist()}
    assert chosen != {tuple(key) for key in second.keys.tolist()}
    holds = [sample.holds(found.done[sample].path, shard, 60) for shard in (0, 1)]
    assert {(s, int(r)) for s in (0, 1) for r in np.flatnonzero(holds[s])} == chosen
    small = PoolSample(n_tokens=10**9, longest=40, most_share=0.25)
    total = sum(int(np.minimum(found.pool.n_tokens(s), 41).sum()) for s in (0, 1))
    taken = sum(min(41, int(found.pool.n_tokens(s)[r])) for s, r in small.places(found.pool, 0).tolist())
    assert 0.25 * total <= taken + 1 < 0.25 * total + 42


def test_a_proxy_learns_its_text_and_continues_another(tmp_path: Path) -> None:
    from prill.lm.scoring.models import open_model

    first = Proxy.of_pool(n_tokens=20_000)
    second = Proxy.of_target("b", n_tokens=10**9, max_epochs=2, start=first)
    found = resolve([second], POOL, TARGET, tmp_path)
    counts = {feature: found.done[feature].record.counts for feature in (first, second)}
    assert counts[first]["loss_nats"] < np.log(300) - 0.5
    assert counts[second]["n_epochs"] <= 2
    assert counts[second]["n_tokens"] <= 2 * counts[second]["n_text_tokens"]
    assert counts[second]["flops"] > 0
    assert tuple(path.name for path in found.done[first].parts) == MODEL_FILES
    folder = found.done[first].parts[0].parent
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == []
    opened = open_model(folder)
    assert opened.context == 256
    assert opened.tokenizer.sha256 == open_model(found.done[second].parts[0].parent).tokenizer.sha256


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    from prill.lm import train as training

    proxy = Proxy.of_target("b", n_tokens=4_000)
    found = resolve([proxy], POOL, TARGET, tmp_path)
    whole = found.done[proxy].parts[0].read_bytes()
    folder = tmp_path / "again"
    folder.mkdir()
    paths = [folder / name for name in MODEL_FILES]
    real = training.train

    def stopped(runs, settings, **options):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        def stop(step) -> None:  # type: ignore[no-untyped-def]
            if step.done == 5:
                raise KeyboardInterrupt

        return real(runs, replace(settings, checkpoint_s=0.0), on_step=stop, **options)

    training.train = stopped
    try:
        with pytest.raises(KeyboardInterrupt):
            proxy.build(found.given(proxy), paths)
    finally:
        training.train = real
    assert (folder / "training" / "training.safetensors").is_file()
    proxy.build(found.given(proxy), paths)
    assert paths[0].read_bytes() == whole


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="one target"):
        Proxy()
    with pytest.raises(DataError, match=r"target 'b' must hold at least 512 tokens .*, found \d+"):
        resolve([Proxy.of_target("b")], POOL, {"b": ["a word", "another one"]}, tmp_path)
    with pytest.raises(DataError, match="the pool must hold at least 512 tokens"):
        resolve([Proxy.of_pool()], ["a", "short pool", ""], TARGET, tmp_path / "short")
