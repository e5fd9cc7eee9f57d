"""What an objective adds to the plain loss: every term against autograd of its formula over all logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.lm.data import Rows, Soft, TokenStream, batch, stack_rows
from prill.lm.fresh import Fresh
from prill.lm.objectives.objective import At, Terms
from prill.lm.shape import Shape, flops_per_token

torch = pytest.importorskip("torch")

from prill.lm import head as head_module  # noqa: E402
from prill.lm.checkpoint import load_model  # noqa: E402
from prill.lm.head import head_backward  # noqa: E402
from prill.lm.layers import density  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.packed import Packed, SoftLabels  # noqa: E402
from prill.lm.parameters import views  # noqa: E402

TIED = Shape(vocab_size=50, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=12)
UNTIED = replace(TIED, tied=False)
AT = At(step=3, progress=0.25)
N_MODELS, N_TOKENS, N_EXTRA = 2, 36, 5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 tokens, so that 36 need three."""
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 1)


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """An objective whose terms are given."""

    found: Terms

    def n_extra(self, width: int) -> int:
        return N_EXTRA

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        assert extra.shape == (N_MODELS, N_EXTRA)
        assert hidden.shape == (N_MODELS, N_TOKENS, 16)
        assert not hidden.requires_grad
        assert at == AT
        return self.found

    def as_record(self) -> dict[str, Any]:
        return {}


def rows(n_models: int = N_MODELS, **channels: Any) -> Rows:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n_models):
        docs = [rng.integers(1, 50, size=int(rng.integers(1, 20))) for _ in range(20)]
        found.append(batch(TokenStream.from_documents(docs, eos=0), np.arange(3, 6), seq_len=12))
    return replace(stack_rows(found), **channels)


def stack_of(shape: Shape = TIED) -> StackedLlama:
    stack = StackedLlama.init(shape, range(N_MODELS), n_extra=N_EXTRA)
    stack.flat += 0.05 * torch.randn(stack.flat.shape, generator=torch.Generator().manual_seed(1))
    return stack


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WEIGHTS = drawn(N_MODELS, N_TOKENS, seed=5).clamp_min(0)  # about half of them are 0
SOFT_IDS = torch.rand(N_MODELS, N_TOKENS, 50, generator=torch.Generator().manual_seed(6)).argsort(2)[..., :4]
SOFT_SHARES = drawn(N_MODELS, N_TOKENS, 4, seed=7).softmax(2) * 0.9
DENSE = drawn(N_MODELS, N_TOKENS, 50, seed=8).softmax(2)
PROBE = drawn(N_MODELS, N_TOKENS, 16, seed=9)


def unlikelihood(nll: torch.Tensor, models: slice, tokens: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p on even tokens, -log (1 - p) on odd ones."""
    number = torch.arange(N_TOKENS).expand(N_MODELS, -1)[models, tokens]
    p = torch.exp(-nll)
    return torch.where(number % 2 == 0, nll, -torch.log1p(-p)), torch.where(
        number % 2 == 0, 1.0, -p / (1 - p)
    )


def expected(
    stack: StackedLlama, packed: Packed, terms: Terms, teacher: torch.Tensor | None, *, probed: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and gradient by autograd of the contract's formula."""
    leaf = stack.flat.clone().requires_grad_()
    weights = views(leaf, stack.shape)
    stream = torch.stack([table[ids] for table, ids in zip(weights["embedding"], packed.inputs, strict=True)])
    active: list[torch.Tensor] = []
    hidden = stack._blocks(weights, stream, packed, active)
    head = weights["embedding" if stack.shape.tied else "head"]
    log_p = torch.log_softmax(hidden @ head.transpose(1, 2), 2)
    loss = -log_p.gather(2, packed.targets[..., None])[..., 0]
    if terms.token_loss is not None:
        p = torch.exp(-loss)
        loss = torch.where(torch.arange(N_TOKENS) % 2 == 0, loss, -torch.log1p(-p))
    if teacher is not None:
        loss = (1 - terms.teacher_share) * loss - terms.teacher_share * (teacher * log_p).sum(2)
    weight = terms.weights if terms.weights is not None else packed.weights
    if weight is None:
        weight = torch.ones_like(loss)
    found = (loss * weight).sum(1) / (weight != 0).sum(1).clamp_min(1)
    if probed:
        found = found + (hidden * PROBE).sum((1, 2)) + (leaf[:, stack.shape.n_total :] ** 2).sum(1)
    if terms.density:
        shares = [(h**2 / (h**2 + terms.density_eps)).mean((1, 2)) for h in active]
        found = found + terms.density * torch.stack(shares).mean(0)
    found.sum().backward()
    assert leaf.grad is not None
    return found.detach(), leaf.grad


def sparse_as_dense() -> torch.Tensor:
    return torch.zeros(N_MODELS, N_TOKENS, 50).scatter_(2, SOFT_IDS, SOFT_SHARES)


CASES: dict[str, tuple[Terms, torch.Tensor | None]] = {
    "plain": (Terms(), None),
    "weights": (Terms(weights=WEIGHTS), None),
    "token loss": (Terms(token_loss=unlikelihood), None),
    "weighted token loss": (Terms(token_loss=unlikelihood, weights=WEIGHTS), None),
    "sparse teacher": (Terms(teacher_share=0.6), sparse_as_dense()),
    "only the teacher": (Terms(teacher_share=1.0), sparse_as_dense()),
    "dense teacher": (Terms(teacher_share=0.3, teacher=lambda k, n: DENSE[k, n]), DENSE),
    "density": (Terms(density=0.5, density_eps=1e-3), None),
    "all": (
        Terms(
            weights=WEIGHTS,
            token_loss=unlikelihood,
            teacher_share=0.6,
            teacher=lambda k, n: DENSE[k, n],
            density=0.5,
            density_eps=1e-3,
        ),
        DENSE,
    ),
}


@pytest.mark.parametrize("shape", [TIED, UNTIED])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_every_term_equals_autograd(shape: Shape, case: str) -> None:
    terms, teacher = CASES[case]
    stack = stack_of(shape)
    soft = Soft(ids=SOFT_IDS.view(2, 3, 12, 4).numpy(), shares=SOFT_SHARES.view(2, 3, 12, 4).numpy())
    packed = stack.pack(rows(soft=soft))
    losses, gradient = stack.losses_and_gradient(packed, Fixed(found=terms), AT)
    theirs, their_gradient = expected(stack, packed, terms, teacher, probed=False)
    torch.testing.assert_close(losses.float(), theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-6)


def test_an_auxiliary_loss_reaches_blocks_and_extra_parameters() -> None:
    stack = stack_of()
    packed = stack.pack(rows())
    hidden, _ = stack.states_and_logits(packed)
    terms = Terms(
        auxiliary=(hidden * PROBE).sum((1, 2)) + (stack.extra**2).sum(1),
        hidden_gradient=PROBE,
        extra_gradient=2 * stack.extra,
        weights=WEIGHTS,
    )
    losses, gradient = stack.losses_and_gradient(packed, Fixed(found=terms), AT)
    theirs, their_gradient = expected(stack, packed, terms, None, probed=True)
    torch.testing.assert_close(losses.float(), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-5)


def test_an_objective_without_terms_is_no_objective() -> None:
    stack = stack_of()
    packed = stack.pack(rows())
    plain, through = (stack.losses_and_gradient(packed, *how) for how in ((), (Fixed(found=Terms()), AT)))
    assert torch.equal(plain[0], through[0])
    assert torch.equal(plain[1], through[1])


def test_the_rows_weights_count_where_the_objective_sets_none() -> None:
    stack = stack_of()
    weighted = stack.pack(rows(weights=WEIGHTS.view(2, 3, 12).numpy()))
    losses, gradient = stack.losses_and_gradient(weighted)
    theirs, their_gradient = stack.losses_and_gradient(
        stack.pack(rows()), Fixed(found=Terms(weights=WEIGHTS)), AT
    )
    assert torch.equal(losses, theirs)
    assert torch.equal(gradient, their_gradient)


def test_weights_of_one_are_no_weights() -> None:
    stack = stack_of()
    losses, gradient = stack.losses_and_gradient(stack.pack(rows(weights=np.ones((2, 3, 12), np.float32))))
    plain, plain_gradient = stack.losses_and_gradient(stack.pack(rows()))
    torch.testing.assert_close(losses, plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-5, atol=1e-8)


def test_a_model_without_a_trained_token_stands_still() -> None:
    stack = stack_of()
    weights = np.ones((2, 3, 12), np.float32)
    weights[1] = 0
    losses, gradient = stack.losses_and_gradient(stack.pack(rows(weights=weights)))
    assert losses[1] == 0
    assert losses[0] > 0
    assert not gradient[1].any()
    assert gradient[0].any()
    assert bool(gradient.isfinite().all())


def test_a_masked_token_counts_nothing_even_where_its_loss_is_infinite() -> None:
    def bottomless(nll: torch.Tensor, models: slice, tokens: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return nll / WEIGHTS[models, tokens].sign(), 1 / WEIGHTS[models, tokens].sign()

    stack = stack_of()
    packed = stack.pack(rows())
    found = stack.losses_and_gradient(packed, Fixed(found=Terms(weights=WEIGHTS, token_loss=bottomless)), AT)
    plain = stack.losses_and_gradient(packed, Fixed(found=Terms(weights=WEIGHTS)), AT)
    torch.testing.assert_close(found, plain)


def test_the_soft_labels_card() -> None:
    """Teacher logits (2, 1, 0) at temperature 1/4, student logits (1, 1, 0), truth 0, share 0.667."""
    head = torch.eye(3)[None]
    teacher = torch.softmax(torch.tensor([2.0, 1.0, 0.0]) / 0.25, 0)
    terms = Terms(teacher_share=0.667, teacher=lambda k, n: teacher.view(1, 1, 3))
    losses, below = head_backward(
        torch.tensor([[[1.0, 1.0, 0.0]]]), head, torch.tensor([[0]]), torch.empty(1, 3, 3), terms=terms
    )
    assert losses.item() == pytest.approx(0.862214, abs=1e-6)
    torch.testing.assert_close(below[0, 0], torch.tensor([-0.565469, 0.410326, 0.155143]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_teacher_in_bf16_and_with_wild_logits(scale: float, sparse: bool) -> None:
    hidden, head = (drawn(2, 36, 16, seed=1) * scale).bfloat16(), drawn(2, 50, 16, seed=2).bfloat16()
    targets = torch.arange(36).expand(2, -1)
    terms = Terms(teacher_share=0.5, teacher=None if sparse else lambda k, n: DENSE[k, n])
    into = torch.empty(2, 50, 16)
    losses, below = head_backward(
        hidden, head, targets, into, terms=terms, soft=SoftLabels(SOFT_IDS, SOFT_SHARES)
    )
    leaf_hidden, leaf_head = hidden.float().requires_grad_(), head.float().requires_grad_()
    log_p = torch.log_softmax(leaf_hidden @ leaf_head.transpose(1, 2), 2)
    nll = -log_p.gather(2, targets[..., None])[..., 0]
    plain = (0.5 * nll - 0.5 * ((sparse_as_dense() if sparse else DENSE) * log_p).sum(2)).mean(1)
    plain.sum().backward()
    torch.testing.assert_close(losses.float(), plain.detach(), rtol=1e-2, atol=1e-2)  # bf16 keeps 8 bits
    for ours, theirs in ((below.float(), leaf_hidden.grad), (into, leaf_head.grad)):
        assert torch.linalg.vector_norm(ours - theirs) <= 6e-2 * torch.linalg.vector_norm(theirs)


def test_the_density_card() -> None:
    active = torch.tensor([0, 1e-4, 1e-3, 1e-2, 1.0]).view(1, 1, 5)
    share, _ = density(active, eps=1e-7)
    assert share.item() == pytest.approx(0.5998, abs=1e-4)


def test_a_visible_prefix_is_seen_by_its_document_only() -> None:
    stack = stack_of()
    docs = [np.arange(1, 6), np.arange(10, 15)]  # 6 tokens each with end-of-text: one row of 12
    seen = np.zeros(12, bool)
    seen[6:9] = True
    plain = TokenStream.from_documents(docs, eos=0)
    stream = replace(plain, visible=seen)
    one = batch(stream, np.arange(1), seq_len=12)
    assert one.visible is not None
    number = int(np.flatnonzero(one.visible[0])[-1])  # the last visible input
    base = stack.logits(stack.pack(stack_rows([one, one])))[0]

    def changed_by(place: int) -> list[int]:
        inputs = one.inputs.copy()
        inputs[0, place] = 40
        other = replace(one, inputs=inputs)
        found = stack.logits(stack.pack(stack_rows([other, other])))[0]
        return sorted(set(torch.nonzero((found != base).any(1)).flatten().tolist()))

    first = int(np.flatnonzero(one.segments[0] == one.segments[0, number])[0])
    last = int(np.flatnonzero(one.segments[0] == one.segments[0, number])[-1])
    assert changed_by(number) == list(range(first, last + 1))  # also those before it
    assert changed_by(number + 1) == list(range(number + 1, last + 1))  # causal again
    causal = replace(one, visible=None)
    assert not torch.equal(base, stack.logits(stack.pack(stack_rows([causal, causal])))[0])


def test_the_channels_reach_the_device() -> None:
    stack = stack_of()
    soft = Soft(ids=SOFT_IDS.view(2, 3, 12, 4).numpy(), shares=SOFT_SHARES.view(2, 3, 12, 4).numpy())
    values = drawn(2, 3, 12, seed=3).numpy()
    packed = stack.pack(rows(soft=soft, weights=values, scores=-values))
    assert packed.soft is not None
    assert packed.weights is not None
    assert packed.scores is not None
    assert torch.equal(packed.soft.ids, SOFT_IDS)
    assert torch.equal(packed.soft.shares, SOFT_SHARES)
    assert torch.equal(packed.weights, -packed.scores)
    assert packed.weights.shape == (2, 36)
    plain = stack.pack(rows())
    assert plain.soft is plain.weights is plain.scores is None
    assert plain.segments.shape == plain.positions.shape == (6, 12)


def test_fresh_models_with_room_for_an_objective(tmp_path: Path) -> None:
    start = Fresh(shape=TIED)
    stack = start.learner([4, 5], n_extra=3, dtype=torch.float32, device=torch.device("cpu"))
    alone = StackedLlama.init(TIED, [5])
    assert stack.flat.shape == (2, TIED.n_total + 3)
    assert not stack.extra.any()
    assert torch.equal(stack.flat[1, :-3], alone.flat[0])
    assert stack.n_decayed == alone.n_decayed
    assert (start.vocab_size, start.context, start.width()) == (50, 12, 16)
    assert start.flops_per_token == flops_per_token(TIED)
    stack.extra.fill_(7)
    assert stack.copy().extra.eq(7).all()
    files = stack.save(tmp_path, 1, {"seed": 5})
    assert all(file.is_file() for file in files)
    found, meta = load_model(tmp_path)
    assert meta == {"seed": 5}
    assert torch.equal(found.flat, alone.flat)


def test_an_objective_needs_to_know_where_it_is() -> None:
    stack = stack_of()
    with pytest.raises(ValueError, match="`at`"):
        stack.losses_and_gradient(stack.pack(rows()), Fixed(found=Terms()))
    with pytest.raises(ValueError, match="soft labels"):
        stack.losses_and_gradient(stack.pack(rows()), Fixed(found=Terms(teacher_share=0.5)), AT)
