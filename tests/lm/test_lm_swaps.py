"""Swapped tokens: labels, confusing clusters, recovery, and a detector that learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream, stack_rows
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.objectives.objective import At
from prill.lm.objectives.swaps import SwapDetection, counts_after, swap_logits, swap_report
from prill.lm.samples.swaps import SwapFeed, Swaps
from prill.lm.samples.token_clusters import ClusterCounts, cluster_tokens
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.shape import Shape
from prill.lm.train import Run, TrainSettings, train

torch = pytest.importorskip("torch")

from prill.lm.model import StackedLlama  # noqa: E402

SHAPE = Shape(vocab_size=30, d_model=16, n_layers=2, n_heads=2, d_ff=32, seq_len=32)
START = At(step=0, progress=0.0)


def text(n_docs: int = 60) -> StreamFeed:
    """Each token is the one before plus 1, from 1 to 25 in a circle: a swap breaks the rule."""
    rng = np.random.default_rng(0)
    docs = [1 + (int(rng.integers(25)) + np.arange(40)) % 25 for _ in range(n_docs)]
    return StreamFeed(stream=TokenStream.from_documents(docs, eos=0), row_tokens=32, seed=1)


def swaps(**changes: Any) -> Swaps:
    return Swaps(**({"vocab_size": 28, "specials": (0, 7)} | changes))


@given(
    rate=st.floats(0, 1),
    first=st.integers(0, 40),
    seed=st.integers(0, 9),
    sees=st.sampled_from(["left", "all"]),
)
@settings(max_examples=30, deadline=None)
def test_labels_say_what_was_swapped(
    rate: float, first: int, seed: int, sees: Literal["left", "all"]
) -> None:
    plain = text().rows(first, 4)
    rows = SwapFeed(feed=text(), swaps=swaps(rate=rate, sees=sees), seed=seed).rows(first, 4)
    special = np.isin(plain.inputs, [0, 7])
    assert np.array_equal(rows.inputs[special], plain.inputs[special])
    assert np.all(rows.scores[special] == -1)
    assert np.array_equal(rows.scores[~special] == 1, (rows.inputs != plain.inputs)[~special])
    assert not np.isin(rows.inputs[rows.inputs != plain.inputs], [0, 7, 28, 29]).any()
    assert np.array_equal(rows.targets, plain.targets)
    if sees == "all":
        assert rows.visible.all()
        assert not rows.weights.any()
    else:
        assert rows.visible is None
        assert rows.weights is None


def test_the_expected_share_is_swapped_uniformly() -> None:
    rows = SwapFeed(feed=text(400), swaps=swaps(rate=0.15), seed=0).rows(0, 500)
    judged = rows.scores >= 0
    share = (rows.scores == 1).sum() / judged.sum()
    assert share == pytest.approx(0.15, abs=5 * np.sqrt(0.15 * 0.85 / judged.sum()))
    shown = np.bincount(rows.inputs[rows.scores == 1], minlength=28)
    expected = (rows.scores == 1).sum() / 26
    assert np.all(np.abs(np.delete(shown, [0, 7]) - expected) < 6 * np.sqrt(expected))


def test_a_row_has_the_same_swaps_in_any_portion_and_others_the_next_time() -> None:
    feed = SwapFeed(feed=text(), swaps=swaps(), seed=3)
    whole = feed.rows(0, 30)
    assert np.array_equal(feed.rows(10, 5).inputs, whole.inputs[10:15])
    again = StreamFeed(stream=text().stream, row_tokens=32, seed=1, shuffle="none")
    feed = SwapFeed(feed=again, swaps=swaps(), seed=3)
    once, twice = feed.rows(0, 1), feed.rows(41 * 60, 1)  # the stream's whole number of rows later
    assert np.array_equal(once.targets, twice.targets)
    assert not np.array_equal(once.inputs, twice.inputs)
    assert feed.digest() != SwapFeed(feed=again, swaps=swaps(rate=0.2), seed=3).digest()
    assert (feed.n_tokens, feed.highest_id, len(feed.documents(0, 1)) > 0) == (60 * 41, 27, True)


def test_recovery_counts_swapped_places_only() -> None:
    plain = text().rows(0, 8)
    for sees in ("left", "all"):
        rows = SwapFeed(feed=text(), swaps=swaps(task="recover", sees=sees), seed=0).rows(0, 8)
        assert np.array_equal(rows.targets, plain.inputs)
        assert np.array_equal(rows.weights > 0, rows.inputs != plain.inputs)
        assert rows.inputs.max() < 28  # there is no mask symbol
    none = SwapFeed(feed=text(), swaps=swaps(task="recover", rate=0.0), seed=0).rows(0, 8)
    model = StackedLlama.init(SHAPE, [0])
    losses, gradient = model.losses_and_gradient(model.pack(stack_rows([none])))
    assert float(losses[0]) == 0.0
    assert not gradient.any()


def test_counts_stretch_to_the_published_shares() -> None:
    table = ClusterCounts(cluster_of=np.arange(3), counts=np.array([[1, 5, 3], [2, 2, 2], [1, 1, 1]]))
    assert table.shares()[0] == pytest.approx([0.090031, 0.665241, 0.244728], abs=1e-6)
    assert table.shares()[1:] == pytest.approx(np.full((2, 3), 1 / 3))


def test_counts_rise_where_the_detector_is_wrong() -> None:
    table = ClusterCounts.start(np.array([0, 0, 1, 1]))
    before, after = np.array([0, 0, 2, 3]), np.array([2, 0, 2, 1])
    moved = table.counted(before, after, np.array([True, False, False, True]))
    # 0 shown as 2, missed: (0, 1) + 1; 0 as itself, right: (0, 0) - 1; 2, right: (1, 1) - 1; (1, 0) + 1
    assert moved.counts.tolist() == [[0, 2], [2, 0]]
    assert table.counts.tolist() == [[1, 1], [1, 1]]
    only = table.counted(before, after, np.array([True, False, False, True]), only_swapped=True)
    assert only.counts.tolist() == [[1, 2], [2, 1]]
    for _ in range(4):
        only = only.counted(before, after, np.array([True, False, False, True]), bound=3)
    assert only.counts.tolist() == [[-2, 4], [4, -2]]
    parts = [table.counted(before[i:j], after[i:j], np.ones(j - i, np.bool_)) for i, j in ((0, 2), (2, 4))]
    whole = table.counted(before, after, np.ones(4, np.bool_))
    assert np.array_equal(sum(part.counts - 1 for part in parts), whole.counts - 1)


def test_confusing_clusters_are_shown_more() -> None:
    cluster_of = np.arange(28) % 4
    counts = np.ones((4, 4), np.int64)
    counts[:, 2] = 50
    table = ClusterCounts(cluster_of=cluster_of, counts=counts)
    rows = SwapFeed(feed=text(200), swaps=swaps(clusters=table, rate=0.5), seed=0).rows(0, 200)
    plain = text(200).rows(0, 200)
    swapped = rows.inputs != plain.inputs
    assert np.array_equal(rows.scores == 1, swapped)
    share = (cluster_of[rows.inputs[swapped]] == 2).mean()
    expected = np.e**2 / (np.e**2 + 3)
    assert share == pytest.approx(expected, abs=0.02)
    lonely = ClusterCounts(cluster_of=np.minimum(np.arange(28), 1), counts=np.array([[1, 1], [1, 1]]))
    one = Swaps(vocab_size=28, specials=(), rate=1.0, clusters=lonely)
    rows = one(plain, np.arange(200), seed=0)  # token 0 is alone in its cluster: it may have to stay
    stayed = rows.inputs == plain.inputs
    assert stayed[plain.inputs == 0].any()
    assert not stayed[plain.inputs != 0].any()
    assert np.array_equal(rows.scores == 0, stayed)


def test_counts_survive_a_file(tmp_path: Path) -> None:
    table = ClusterCounts(cluster_of=np.array([0, 1, 1]), counts=np.array([[1, -5], [3, 2]]))
    table.save(tmp_path / "counts.safetensors")
    again = ClusterCounts.load(tmp_path / "counts.safetensors")
    assert again.digest == table.digest
    assert (
        swaps(vocab_size=3, specials=(), clusters=again).digest()
        != swaps(vocab_size=3, specials=(), clusters=ClusterCounts.start(again.cluster_of)).digest()
    )
    broken = bytearray((tmp_path / "counts.safetensors").read_bytes())
    broken[-3] ^= 1
    (tmp_path / "counts.safetensors").write_bytes(broken)
    with pytest.raises(DataError, match=r"counts\.safetensors"):
        ClusterCounts.load(tmp_path / "counts.safetensors")


def test_near_embeddings_share_a_cluster() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [9, 0], [0, 9]])
    points = centres[np.arange(90) % 3] + rng.normal(0, 0.3, (90, 2))
    found = [cluster_tokens(points, 3, seed=seed) for seed in range(4)]
    assert any(len({tuple(set(f[i::3])) for i in range(3)}) == 3 for f in found)
    assert np.array_equal(found[0], cluster_tokens(points, 3, seed=0))


def test_the_detector_has_its_gradient_and_its_plateau() -> None:
    model = StackedLlama.init(SHAPE, [0, 1], n_extra=17)
    feed = SwapFeed(feed=text(), swaps=swaps(), seed=0)
    packed = model.pack(stack_rows([feed.rows(0, 4), feed.rows(4, 4)]))
    hidden = model.states(packed)
    model.extra.copy_(torch.randn(2, 17, generator=torch.Generator().manual_seed(0)) * 0.3)
    free_hidden, free_extra = hidden.clone().requires_grad_(), model.extra.clone().requires_grad_()
    judged = packed.scores >= 0
    loss = torch.stack(
        [
            torch.nn.functional.binary_cross_entropy_with_logits(
                swap_logits(free_hidden, free_extra)[k][judged[k]], packed.scores[k][judged[k]]
            )
            for k in range(2)
        ]
    )
    expected = torch.autograd.grad(2.0 * loss.sum(), [free_hidden, free_extra])
    terms = SwapDetection(weight=2.0).terms(hidden, packed, model.extra, START)
    assert torch.allclose(terms.auxiliary, 2 * loss.detach(), atol=1e-6)
    assert torch.allclose(terms.hidden_gradient, expected[0], atol=1e-6)
    assert torch.allclose(terms.extra_gradient, expected[1], atol=1e-6)
    labels = (torch.arange(100) < 15).float()
    report = swap_report(torch.full((100,), float(np.log(0.15 / 0.85))), labels)
    assert report.loss == pytest.approx(0.422709, abs=1e-6)  # H(0.15)
    assert report.f1 == 0.0
    assert swap_report(labels * 2 - 1, labels).f1 == 1.0


@pytest.mark.parametrize("sees", ["left", "all"])
def test_a_detector_learns_and_tells_the_next_stage(sees: Literal["left", "all"], tmp_path: Path) -> None:
    table = ClusterCounts.start(np.arange(28) % 4)
    feed = SwapFeed(feed=text(), swaps=swaps(sees=sees, clusters=table), seed=0)
    model = StackedLlama.init(SHAPE, [0], n_extra=17)
    objective = SwapDetection(language=sees == "left")
    adam = torch.optim.AdamW([model.flat], lr=1e-2, weight_decay=0.0)
    for step in range(100):
        packed = model.pack(stack_rows([feed.rows(8 * step, 8)]))
        _, model.flat.grad = model.losses_and_gradient(packed, objective, START)
        adam.step()
    fresh = stack_rows([feed.rows(5000, 16)])
    packed = model.pack(fresh)
    judged = packed.scores[0] >= 0
    report = swap_report(swap_logits(model.states(packed), model.extra)[0][judged], packed.scores[0][judged])
    assert report.loss < 0.32  # the plateau is 0.42
    assert report.f1 > 0.4
    after = counts_after(model, feed, 5000, 16)
    off = ~np.eye(4, dtype=bool)
    assert after.counts.sum() - 16 < 0  # mostly right
    assert after.counts[off].mean() > np.diag(after.counts).mean()  # originals are the easy ones
    assert np.array_equal(after.counts, counts_after(model, feed, 5000, 16, at_once=5).counts)


def test_swapped_tokens_are_recovered_from_both_sides() -> None:
    feed = SwapFeed(feed=text(), swaps=swaps(task="recover", sees="all"), seed=0)
    model = StackedLlama.init(SHAPE, [0])
    adam = torch.optim.AdamW([model.flat], lr=1e-2, weight_decay=0.0)
    for step in range(100):
        packed = model.pack(stack_rows([feed.rows(8 * step, 8)]))
        _, model.flat.grad = model.losses_and_gradient(packed)
        adam.step()
    packed = model.pack(stack_rows([feed.rows(5000, 16)]))
    asked = packed.weights[0] > 0
    loss = model.token_losses(packed)[0][asked].mean()
    assert float(loss) < 0.8 * np.log(25)
    right = model.logits(packed)[0][asked].argmax(1) == packed.targets[0][asked]
    assert float(right.float().mean()) > 5 / 25


def test_swaps_go_through_a_whole_training() -> None:
    arms = []
    for objective in (SwapDetection(), SwapDetection(language=False)):
        given_settings = TrainSettings(
            start=Fresh(shape=SHAPE),
            branch_tokens=(2560,),
            batches=BatchTable.constant(n_rows=2, row_tokens=32),
            schedule=ScheduleSpec(wsd=WsdSpec(warmup="3 steps")),
            objective=objective,
            precision="fp32",
            device="cpu",
        )
        feed = SwapFeed(feed=text(), swaps=swaps(), seed=0)
        runs = [Run(label=str(seed), seed=seed, feed=feed) for seed in (0, 1)]
        results = train(runs, given_settings)
        arms.append(results[0].curve)
        assert results[0].curve[-1].loss_nats < results[0].curve[0].loss_nats
    assert arms[0][0].loss_nats > arms[1][0].loss_nats + 1  # the language loss is there, or is not


def test_what_cannot_be_swapped_is_told() -> None:
    with pytest.raises(RecipeError, match=r"`rate` must be from 0 to 1, found 1\.5"):
        swaps(rate=1.5)
    with pytest.raises(RecipeError, match="two tokens at least, found 1"):
        swaps(vocab_size=2, specials=(0,))
    with pytest.raises(RecipeError, match="28 tokens need clusters, found 4"):
        swaps(clusters=ClusterCounts.start(np.arange(4)))
    with pytest.raises(DataError, match="square table"):
        ClusterCounts(cluster_of=np.arange(4), counts=np.ones((2, 2), np.int64))
    model = StackedLlama.init(SHAPE, [0], n_extra=17)
    packed = model.pack(stack_rows([text().rows(0, 2)]))
    with pytest.raises(RecipeError, match="labels of swapped tokens, found none"):
        model.losses_and_gradient(packed, SwapDetection(), START)
    with pytest.raises(RecipeError, match="within clusters, found none"):
        counts_after(model, SwapFeed(feed=text(), swaps=swaps(), seed=0), 0, 2)
