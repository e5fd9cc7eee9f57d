"""Gradients of chunks without forming them: against autograd and algebra; projections in the mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm.data import Rows, positions_of  # noqa: E402
from prill.lm.gradients.chunks import Chunk, Chunking, cut  # noqa: E402
from prill.lm.gradients.curvature import (  # noqa: E402
    Curvature,
    Factors,
    LayerCurvature,
    corrected,
    factored,
)
from prill.lm.gradients.influence import influences, target_gradient  # noqa: E402
from prill.lm.gradients.products import (  # noqa: E402
    Projection,
    inner_products,
    squared_norms,
    sum_gradient,
)
from prill.lm.gradients.trace import Layer, Trace, layer_names, layer_sizes, trace  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.parameters import views  # noqa: E402

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
UNTIED = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16, tied=False)


def model_of(shape: Shape = SHAPE) -> StackedLlama:
    model = StackedLlama.init(shape, [0])
    model.flat += 0.05 * torch.randn(model.flat.shape, generator=torch.Generator().manual_seed(1))
    return model


def documents(n: int = 6, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 40, size=int(rng.integers(3, 40))) for _ in range(n)]


def explicit(model: StackedLlama, doc: np.ndarray, chunk: Chunk) -> dict[str, torch.Tensor]:
    """The gradient of one chunk's summed loss by the model's own training pass."""
    targets = doc[chunk.start : chunk.stop][None, None]
    inputs = np.concatenate([[doc[chunk.start - 1] if chunk.start else 0], doc[chunk.start : chunk.stop - 1]])
    segments = np.zeros(targets.shape, np.int64)
    rows = Rows(
        inputs=inputs[None, None], targets=targets, positions=positions_of(segments), segments=segments
    )
    _, gradient = model.losses_and_gradient(model.pack(rows))
    found = views(gradient, model.shape)
    return {name: found[name][0] * (chunk.stop - chunk.start) for name in layer_names(model)}


@pytest.mark.parametrize("shape", [SHAPE, UNTIED])
def test_products_and_norms_equal_those_of_gradients_that_are_formed(shape: Shape) -> None:
    model, docs = model_of(shape), documents()
    chunks = Chunking(length=16).chunks([len(doc) for doc in docs])
    (rows,) = cut(docs, chunks, length=16, prefix=0, n_rows=64)
    one = trace(model, rows)
    formed = [explicit(model, docs[chunk.document], chunk) for chunk in chunks]
    draw = torch.Generator().manual_seed(3)
    wanted = {name: torch.randn(2, *size, generator=draw) for name, size in layer_sizes(model).items()}
    products = inner_products(one, wanted, n_chunks=len(chunks))
    norms = squared_norms(one, n_chunks=len(chunks))
    for number, gradient in enumerate(formed):
        for r in range(2):
            expected = sum(float((gradient[name] * wanted[name][r]).sum()) for name in wanted)
            assert float(products[number, r]) == pytest.approx(expected, rel=1e-4, abs=1e-4)
        expected = sum(float(g.double().square().sum()) for g in gradient.values())
        assert float(norms[number]) == pytest.approx(expected, rel=1e-4)


def test_the_pass_has_the_loss_and_the_gradient_of_training() -> None:
    model, docs = model_of(), documents()
    chunks = Chunking(length=16).chunks([len(doc) for doc in docs])
    (rows,) = cut(docs, chunks, length=16, prefix=0, n_rows=64)
    one = trace(model, rows)
    n_trained = int((rows.owner >= 0).sum())
    losses, gradient = model.losses_and_gradient(model.pack(rows.rows))
    assert one.loss / n_trained == pytest.approx(float(losses[0]), rel=1e-6)
    found = views(gradient, model.shape)
    for name, part in sum_gradient(one).items():
        torch.testing.assert_close(part.float() / n_trained, found[name][0], rtol=1e-4, atol=1e-6)


def test_neighbours_in_a_row_change_nothing() -> None:
    model, docs = model_of(), documents()
    chunking = Chunking(length=16)
    wanted = {name: torch.randn(1, *size) for name, size in layer_sizes(model).items()}
    together = influences(model, docs, wanted, chunking, prefix=0).values
    alone = [influences(model, [doc], wanted, chunking, prefix=0).values[0] for doc in docs]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_chunks_overlap_by_the_token_that_is_read_and_rests_are_dropped() -> None:
    chunking = Chunking(length=8, smallest=4, most_tokens=20)
    found = chunking.chunks([8, 3, 11, 12, 100, 0])
    # 8: one; 3: a rest below 4; 11: a rest of 3 is dropped; 12: a rest of 4 stays; 100: its first 20
    assert [(c.document, c.start, c.stop) for c in found] == [
        (0, 0, 8),
        (2, 0, 8),
        (3, 0, 8),
        (3, 8, 12),
        (4, 0, 8),
        (4, 8, 16),
        (4, 16, 20),
    ]
    doc = np.arange(1, 13)
    (rows,) = cut([doc], chunking.chunks([12]), length=8, prefix=0, n_rows=4)
    assert rows.rows.inputs[0].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 0, 0, 0, 0]]
    assert rows.rows.targets[0].tolist() == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 0, 0, 0, 0]]
    assert rows.owner.tolist() == [0] * 8 + [1] * 4 + [-1] * 4


def test_a_document_without_a_chunk_has_no_influence() -> None:
    model = model_of()
    wanted = {name: torch.ones(1, *size) for name, size in layer_sizes(model).items()}
    found = influences(
        model, [np.arange(1, 3), np.arange(1, 12)], wanted, Chunking(length=8, smallest=4), prefix=0
    )
    assert found.values[0, 0] == 0
    assert found.values[1, 0] != 0
    assert found.n_chunks.tolist() == [0, 1]


def test_normalised_influence_is_a_cosine_times_the_targets_norm() -> None:
    model, docs = model_of(), documents(1)
    _, n_tokens = target_gradient(model, docs, Chunking(length=16), prefix=0)
    assert n_tokens == len(docs[0])
    one = docs[0][:16]
    own, _ = target_gradient(model, [one], Chunking(length=16), prefix=0)
    norm = sum(float(g.square().sum()) for g in own.values()) ** 0.5
    found = influences(model, [one], {n: g[None] for n, g in own.items()}, Chunking(length=16), prefix=0)
    assert found.values[0, 0] == pytest.approx(norm, rel=1e-4)
    plain = influences(
        model, [one], {n: g[None] for n, g in own.items()}, Chunking(length=16), prefix=0, is_normalised=False
    )
    assert plain.values[0, 0] == pytest.approx(norm**2, rel=1e-4)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_projections_keep_inner_products_in_the_mean(kind: str) -> None:
    rng = torch.Generator().manual_seed(0)
    g, h = (torch.randn(1, 6, 5, generator=rng) for _ in range(2))
    h = h + g  # so that the product is far from 0
    exact = float((g * h).sum())
    found = []
    for seed in range(600):
        projection = Projection(seed=seed, width=4, kind=kind)  # type: ignore[arg-type]
        left, right = (projection.of_gradient({"layer": x})[0] for x in (g, h))
        found.append(float(left @ right))
    spread = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - exact) < 4 * spread
    assert spread < 0.1 * exact  # else the line above says nothing


def test_projected_chunks_are_projected_gradients_and_the_seed_decides_them() -> None:
    model, docs = model_of(), documents(3)
    chunks = Chunking(length=16).chunks([len(doc) for doc in docs])
    (rows,) = cut(docs, chunks, length=16, prefix=0, n_rows=64)
    one = trace(model, rows)
    projection = Projection(seed=5, width=3)
    found = projection.of_chunks(one, n_chunks=len(chunks))
    formed = [explicit(model, docs[chunk.document], chunk) for chunk in chunks]
    expected = torch.stack([projection.of_gradient(gradient) for gradient in formed])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.shape == (len(chunks), 2 * 4 * 9)
    again = Projection(seed=5, width=3).of_chunks(one, n_chunks=len(chunks))
    other = Projection(seed=6, width=3).of_chunks(one, n_chunks=len(chunks))
    assert torch.equal(found, again)
    assert not torch.allclose(found, other)


def independent(x: torch.Tensor, d: torch.Tensor) -> Trace:
    """Every input with every output gradient once: x and d are independent exactly."""
    pairs = torch.cartesian_prod(torch.arange(len(x)), torch.arange(len(d)))
    layer = Layer(inputs=x[pairs[:, 0]], above=d[pairs[:, 1]])
    return Trace(loss=0.0, layers={"layer": layer}, owner=torch.zeros(len(pairs), dtype=torch.long), n_rows=1)


@pytest.mark.parametrize("is_corrected", [False, True])
def test_kfac_of_one_layer_with_independent_x_and_delta_is_exact(is_corrected: bool) -> None:
    # the Hessian of a quadratic loss 1/2 |y - t|^2_M of y = x W is E[x x'] kron M, and here M = E[d d']
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(9, 4, generator=rng, dtype=torch.float64)
    d = torch.randn(7, 3, generator=rng, dtype=torch.float64)
    gradient = torch.randn(4, 3, generator=rng, dtype=torch.float64)
    one = independent(x, d)
    factors = Factors()
    factors.add(one)
    curvature = factored(factors)
    if is_corrected:
        curvature = corrected(curvature, [one])
    damping = 0.03
    hessian = torch.kron(x.T @ x / 9, d.T @ d / 7)
    exact = torch.linalg.solve(hessian + damping * torch.eye(12, dtype=torch.float64), gradient.flatten())
    found = curvature.layers["layer"].solve(gradient, damping=damping, relative=False)
    torch.testing.assert_close(found.flatten(), exact, rtol=1e-9, atol=1e-9)
    # and the matrix is the mean of the outer products of single gradients, formed
    formed = torch.stack([torch.outer(a, b).flatten() for a in x for b in d])
    torch.testing.assert_close(formed.T @ formed / 63, hessian, rtol=1e-9, atol=1e-9)


def test_the_correction_is_the_best_diagonal_where_x_and_delta_depend() -> None:
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(400, 4, generator=rng, dtype=torch.float64)
    d = x[:, :3] * torch.randn(400, 3, generator=rng, dtype=torch.float64)
    one = Trace(
        loss=0.0,
        layers={"layer": Layer(inputs=x, above=d)},
        owner=torch.zeros(400, dtype=torch.long),
        n_rows=1,
    )
    factors = Factors()
    factors.add(one)
    plain = factored(factors)
    better = corrected(plain, [one])
    formed = torch.stack([torch.outer(a, b).flatten() for a, b in zip(x, d, strict=True)])
    exact = formed.T @ formed / 400

    def error(curvature: Curvature) -> float:
        own = curvature.layers["layer"]
        basis = torch.kron(own.inputs, own.outputs)
        return float((basis @ torch.diag(own.values.flatten()) @ basis.T - exact).square().sum())

    assert error(better) < error(plain)


def test_curvature_covers_attention_and_survives_a_file() -> None:
    model, docs = model_of(), documents()
    chunks = Chunking(length=16).chunks([len(doc) for doc in docs])
    (rows,) = cut(docs, chunks, length=16, prefix=0, n_rows=64)
    factors = Factors()
    factors.add(trace(model, rows, draw=torch.Generator().manual_seed(0)))
    curvature = factored(factors)
    assert {"layers.0.qkv", "layers.0.out", "layers.1.qkv", "layers.1.out"} <= set(curvature.layers)
    gradient, _ = target_gradient(model, docs, Chunking(length=16), prefix=0)
    found = curvature.solve(gradient, damping=0.1)
    again = Curvature.of_tensors(curvature.tensors()).solve(gradient, damping=0.1)
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert found["layers.0.qkv"].shape == (16, 48)


def test_huge_damping_only_scales() -> None:
    own = LayerCurvature(inputs=torch.eye(2).double(), outputs=torch.eye(3).double(), values=torch.ones(2, 3))
    g = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(own.solve(g, damping=1e9) * 1e9, g, rtol=1e-6, atol=1e-6)


def test_no_curvature_is_an_error() -> None:
    own = LayerCurvature(inputs=torch.eye(2), outputs=torch.eye(2), values=torch.zeros(2, 2))
    with pytest.raises(DataError, match="above 0, found 0"):
        Curvature(layers={"layers.0.qkv": own}).solve({"layers.0.qkv": torch.ones(2, 2)}, damping=0.1)


def test_labels_drawn_from_the_model_follow_its_distribution() -> None:
    from prill.lm.gradients.trace import _drawn

    logits = torch.tensor([[0.0, 1.0, 2.0]])
    hidden = torch.ones(4000, 1)
    found = _drawn(hidden, logits.T.contiguous(), torch.Generator().manual_seed(0))[0]
    shares = torch.bincount(found, minlength=3) / 4000
    expected = torch.softmax(logits[0], 0)
    assert float((shares - expected).abs().max()) < 4 * (0.25 / 4000) ** 0.5


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=12),
    length=st.integers(1, 16),
    smallest=st.integers(1, 16),
)
def test_every_kept_token_is_in_one_chunk(lengths: list[int], length: int, smallest: int) -> None:
    smallest = min(smallest, length)
    docs = [np.arange(1, n + 1) for n in lengths]
    chunks = Chunking(length=length, smallest=smallest).chunks(lengths)
    seen: list[int] = []
    for rows in cut(docs, chunks, length=length, prefix=0, n_rows=2):
        seen += rows.owner[rows.owner >= 0].tolist()
        assert rows.rows.weights is not None
        np.testing.assert_array_equal(rows.rows.weights.reshape(-1) > 0, rows.owner >= 0)
    counts = np.bincount(np.array(seen, np.int64), minlength=len(chunks)) if seen else np.zeros(len(chunks))
    assert counts.tolist() == [chunk.stop - chunk.start for chunk in chunks]
    dropped = sum(n % length for n in lengths if n % length < smallest)
    assert sum(counts) == sum(lengths) - dropped
