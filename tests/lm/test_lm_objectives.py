"""Objectives with preferences: the figures of their card, gradients against autograd, phases and sums."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from prill.errors import DataError, RecipeError
from prill.lm.data import Rows
from prill.lm.objectives.advantage_weighted import AdvantageWeighted, values_of
from prill.lm.objectives.combined import Combined
from prill.lm.objectives.objective import At, Objective, Terms
from prill.lm.objectives.phased import Phased
from prill.lm.objectives.plain import Plain
from prill.lm.objectives.registry import OBJECTIVES, objective_of
from prill.lm.objectives.reward_weighted import RewardWeighted
from prill.lm.objectives.unlikelihood import STEEPEST, Unlikelihood

torch = pytest.importorskip("torch")

from prill.lm.head import head_backward, terms_of  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.packed import Packed, pack  # noqa: E402
from prill.lm.shape import Shape  # noqa: E402

P = (0.5, 0.1, 0.8)
S = (0.0, 0.9, 0.2)
EVERYWHERE = slice(None)
START = At(step=0, progress=0.0)


def packed(scores: Any, weights: Any = None, *, vocab: int = 7, seed: int = 0) -> Packed:
    """A batch of (K, N) scores with random tokens."""
    given = None if scores is None else np.asarray(scores, np.float32)
    shape = np.asarray(scores if scores is not None else weights).shape
    rng = np.random.default_rng(seed)
    rows = Rows(
        inputs=rng.integers(0, vocab, (shape[0], 1, shape[1])),
        targets=rng.integers(0, vocab, (shape[0], 1, shape[1])),
        positions=np.tile(np.arange(shape[1]), (shape[0], 1, 1)),
        segments=np.zeros((shape[0], 1, shape[1]), np.int64),
        weights=None if weights is None else np.asarray(weights, np.float32)[:, None],
        scores=None if given is None else given[:, None],
    )
    return pack(rows, dtype=torch.float32, device=torch.device("cpu"))


def mean_loss(objective: Objective, p: Any, scores: Any, values: Any = None) -> tuple[float, Any]:
    """Mean of the token losses plus the auxiliary loss, for targets of probability p; and the slopes."""
    nll = -torch.tensor([p], dtype=torch.float32).log()
    # a hidden state of one number h and w = 1 give V = -sigmoid(h)
    hidden = torch.zeros(1, len(p), 1)
    if values is not None:
        foreseen = -torch.tensor(values)
        hidden = (foreseen / (1 - foreseen)).log()[None, :, None]
    extra = torch.ones(1, objective.n_extra(1))
    terms = objective.terms(hidden, packed([scores]), extra, START)
    losses = (nll, torch.ones_like(nll))
    if terms.token_loss is not None:
        losses = terms.token_loss(nll, EVERYWHERE, EVERYWHERE)
    extra_loss = 0.0 if terms.auxiliary is None else float(terms.auxiliary[0])
    return float(losses[0].mean()) + extra_loss, losses[1][0]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        # (0.693147 + 2.302585 + 0.223144) / 3
        (Plain(), 1.072959),
        # weights exp(-s / 10) = 1, 0.913931, 0.980199
        (RewardWeighted(beta=10.0), 1.005426),
        # weights exp(-s) = 1, 0.406570, 0.818731
        (RewardWeighted(beta=1.0), 0.604001),
        # a = 1, 0, 1: (0.693147 - log 0.9 + 0.223144) / 3
        (Unlikelihood(threshold=0.5), 0.340551),
    ],
)
def test_losses_of_the_card(objective: Objective, expected: float) -> None:
    assert mean_loss(objective, P, S)[0] == pytest.approx(expected, abs=1e-6)


def test_advantage_weighted_loss_of_the_card() -> None:
    objective = AdvantageWeighted(alpha=0.5, beta=0.1)
    loss, slopes = mean_loss(objective, P, S, values=(-0.1, -0.4, -0.2))
    assert loss == pytest.approx(0.397138, abs=2e-6)
    # A = 0.1, -0.5, 0: alpha x weights 2.718282, 0.006738, 1
    assert slopes.tolist() == pytest.approx([0.5 * 2.718282, 0.5 * 0.006738, 0.5], rel=1e-4)


def test_reward_weights_of_the_card() -> None:
    assert mean_loss(RewardWeighted(beta=10.0), P, S)[1].tolist() == pytest.approx(
        [1, 0.913931, 0.980199], abs=1e-6
    )
    assert mean_loss(RewardWeighted(beta=1.0), P, S)[1].tolist() == pytest.approx(
        [1, 0.406570, 0.818731], abs=1e-6
    )


def test_equal_scores_foreseen_make_advantage_weighting_alpha_times_maximum_likelihood() -> None:
    loss, slopes = mean_loss(AdvantageWeighted(alpha=0.3, beta=0.1), P, (0.4,) * 3, values=(-0.4,) * 3)
    assert loss == pytest.approx(0.3 * 1.072959, rel=1e-5)
    assert slopes.tolist() == pytest.approx([0.3] * 3, rel=1e-5)


def test_advantage_weighting_with_alpha_1_is_the_released_reward_weighting() -> None:
    # the untrained head says V = -1/2, a constant factor exp(0.5 / beta)
    ours, _ = mean_loss(RewardWeighted(beta=10.0), P, S)
    theirs, _ = mean_loss(AdvantageWeighted(alpha=1.0, beta=10.0), P, S, values=(-0.5,) * 3)
    assert theirs == pytest.approx(ours * math.exp(0.05), rel=1e-6)


@pytest.mark.parametrize("scores", [(0.0, 0.0, 0.0), S])
def test_an_infinite_threshold_makes_unlikelihood_maximum_likelihood(scores: tuple[float, ...]) -> None:
    loss, slopes = mean_loss(Unlikelihood(threshold=math.inf), P, scores)
    assert loss == pytest.approx(1.072959, abs=1e-6)
    assert slopes.tolist() == [1, 1, 1]


def test_a_threshold_of_0_is_a_threshold() -> None:
    # only the first token, of score 0, is aligned
    loss, _ = mean_loss(Unlikelihood(threshold=0.0), P, S)
    assert loss == pytest.approx((-math.log(0.5) - math.log(0.9) - math.log(0.2)) / 3, abs=1e-6)
    # what the released code does in its place, only when asked to
    soft, _ = mean_loss(Unlikelihood(soft=True), P, S)
    mixed = [(1 - s) * -math.log(p) - s * math.log(1 - p) for p, s in zip(P, S, strict=True)]
    assert soft == pytest.approx(sum(mixed) / 3, abs=1e-6)
    assert abs(soft - loss) > 0.1


@pytest.mark.parametrize("given", [{}, {"threshold": 0.0, "soft": True}, {"threshold": math.nan}])
def test_unlikelihood_wants_either_a_threshold_or_softness(given: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="a threshold or `soft`"):
        Unlikelihood(**given)


def test_unlikelihood_of_a_certain_token_is_finite() -> None:
    loss, slopes = mean_loss(Unlikelihood(threshold=0.0), (1.0, 0.9999, 0.5), (1.0, 1.0, 1.0))
    assert loss == pytest.approx((-math.log(1e-20) - math.log(1e-4) + math.log(2)) / 3, rel=1e-3)
    assert slopes.tolist() == pytest.approx([-STEEPEST, -STEEPEST, -1.0], rel=1e-4)


def test_weights_are_clipped() -> None:
    _, slopes = mean_loss(RewardWeighted(beta=0.01), P, (-1.0, 0.0, 1.0))
    assert slopes.tolist() == pytest.approx([1000.0, 1.0, 0.0], abs=1e-6)


def test_standardised_rewards_do_not_depend_on_the_scale_of_scores() -> None:
    objective = RewardWeighted(beta=1.0, standardise=True)
    small = mean_loss(objective, P, tuple(1e-3 * s for s in S))
    large = mean_loss(objective, P, S)
    assert small[0] == pytest.approx(large[0], rel=1e-3)
    # rewards -s standardised: mean -0.366667, deviation 0.385861
    assert large[1].tolist() == pytest.approx(
        [math.exp(0.366667 / 0.385861), math.exp(-0.533333 / 0.385861), math.exp(0.166667 / 0.385861)],
        rel=1e-4,
    )
    assert mean_loss(objective, P, (0.2,) * 3)[1].tolist() == pytest.approx([1] * 3, abs=1e-4)


def test_normalised_by_weights_the_mean_weight_is_one() -> None:
    for objective in (
        RewardWeighted(beta=0.2, normalise="weights"),
        AdvantageWeighted(alpha=1.0, beta=0.2, normalise="weights"),
    ):
        extra = torch.zeros(2, objective.n_extra(4))
        batch = packed(np.random.default_rng(0).random((2, 6)), [[1, 0, 1, 0.5, 1, 1]] * 2)
        terms = objective.terms(torch.zeros(2, 6, 4), batch, extra, START)
        _, slopes = terms.token_loss(torch.ones(2, 6), EVERYWHERE, EVERYWHERE)
        assert ((slopes * batch.weights).sum(1) / batch.weights.sum(1)).tolist() == pytest.approx([1, 1])


def test_weak_reward_weights_are_remarked() -> None:
    remark = RewardWeighted(beta=10.0).remark(0.0, 1.0)
    assert remark is not None
    assert "between 0.905 and 1.000" in remark
    assert RewardWeighted(beta=0.5).remark(0.0, 1.0) is None
    assert RewardWeighted(beta=10.0, standardise=True).remark(0.0, 1.0) is None


def test_an_objective_without_scores_is_an_error() -> None:
    batch = packed(None, [[1.0, 1.0]])
    for objective in (Unlikelihood(threshold=0.5), RewardWeighted(), AdvantageWeighted()):
        with pytest.raises(DataError, match=r"needs scores of the tokens(.|\n)*preference_scores"):
            objective.terms(torch.zeros(1, 2, 3), batch, torch.zeros(1, objective.n_extra(3)), START)


# by hand, through all logits: what autograd differentiates


def written_out(objective: Objective, nll: Any, scores: Any, hidden: Any, extra: Any) -> Any:
    """Loss of each token, (K, N), with the auxiliary part."""
    match objective:
        case Unlikelihood(threshold=float() as threshold):
            good = (scores <= threshold).float()
            bad = -(1 - (-nll).exp()).clamp(min=1e-20).log()
            return good * nll + objective.alpha * (1 - good) * bad
        case Unlikelihood():
            bad = -(1 - (-nll).exp()).clamp(min=1e-20).log()
            return (1 - scores) * nll + objective.alpha * scores * bad
        case RewardWeighted():
            return (-scores / objective.beta).exp().clamp(max=objective.clip) * nll
        case AdvantageWeighted():
            value = -torch.sigmoid((hidden * extra[:, None]).sum(2))
            weight = ((-scores - value.detach()) / objective.beta).exp().clamp(max=objective.clip)
            return objective.alpha * weight * nll + (1 - objective.alpha) * (-scores - value) ** 2
        case Combined():
            return sum(c * written_out(o, nll, scores, hidden, extra) for c, o in objective.parts)
    return nll


OBJECTIVES_TO_CHECK = [
    Plain(),
    Unlikelihood(threshold=0.4, alpha=0.7),
    Unlikelihood(soft=True),
    RewardWeighted(beta=0.5),
    AdvantageWeighted(alpha=0.4, beta=0.5),
    Combined(parts=((0.5, Plain()), (2.0, AdvantageWeighted(alpha=0.6, beta=0.3)))),
    Combined(parts=((1.0, Unlikelihood(threshold=0.0)), (0.25, RewardWeighted(beta=1.0)))),
]


@pytest.mark.parametrize("objective", OBJECTIVES_TO_CHECK, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("is_masked", [False, True])
def test_gradients_equal_autograd(objective: Objective, is_masked: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    n_models, n_tokens, width, vocab = 2, 40, 6, 7
    hidden = torch.randn(n_models, n_tokens, width, generator=generator)
    head = torch.randn(n_models, vocab, width, generator=generator) * 0.5
    extra = torch.randn(n_models, objective.n_extra(width), generator=generator)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, (n_models, n_tokens)) / 2 if is_masked else None
    batch = packed(rng.random((n_models, n_tokens)), weights, vocab=vocab)
    leaves = [x.clone().requires_grad_() for x in (hidden, head, extra)]
    nll = -torch.log_softmax(leaves[0] @ leaves[1].transpose(1, 2), 2).gather(2, batch.targets[:, :, None])
    each = written_out(objective, nll[:, :, 0], batch.scores, leaves[0], leaves[2])
    counted = torch.ones_like(each) if batch.weights is None else batch.weights
    expected = (each * counted).sum(1) / (counted != 0).sum(1)
    gradients = torch.autograd.grad(expected.sum(), leaves, allow_unused=True)

    terms = terms_of(objective, hidden, batch, extra, START)
    head_gradient = torch.zeros_like(head)
    losses, hidden_gradient = head_backward(hidden, head, batch.targets, head_gradient, terms=terms)
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    torch.testing.assert_close(hidden_gradient, gradients[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head_gradient, gradients[1], rtol=1e-4, atol=1e-6)
    if objective.n_extra(width):
        torch.testing.assert_close(terms.extra_gradient, gradients[2], rtol=1e-4, atol=1e-6)


SHAPE = Shape(vocab_size=12, d_model=16, n_layers=1, n_heads=2, d_ff=24, seq_len=16)


def descended(objective: Objective, batch: Packed, *, steps: int) -> tuple[Any, list[float]]:
    """A model after some shrinking steps along the gradient's direction, and the losses on the way."""
    extra = objective.n_extra(SHAPE.d_model)
    model = StackedLlama.init(SHAPE, list(range(batch.n_models)), n_extra=extra)
    losses = []
    for step in range(steps):
        at = At(step=step, progress=step / steps)
        loss, gradient = model.losses_and_gradient(batch, objective, at)
        losses.append(float(loss.sum()))
        model.flat -= 0.1 * (1 - at.progress) * gradient / gradient.norm(dim=1, keepdim=True)
    return model, losses


@pytest.mark.parametrize(
    "objective",
    [Unlikelihood(threshold=0.5), RewardWeighted(beta=0.3), AdvantageWeighted(alpha=0.5, beta=0.5)],
    ids=lambda o: type(o).__name__,
)
def test_trained_models_prefer_tokens_of_good_segments(objective: Objective) -> None:
    # every context is seen with a good answer and a bad one, equally often
    scores = np.tile([0.0, 1.0], (1, 8))
    batch = packed(scores, vocab=12, seed=5)
    alternating = torch.arange(16) % 2
    batch.targets[0] = torch.where(alternating == 0, 3, 9)
    batch.inputs[0] = 2
    batch.positions[0] = 0
    batch.mask[:] = torch.where(torch.eye(16, dtype=torch.bool), 0.0, -torch.inf)  # each sees itself alone
    plain, _ = descended(Plain(), batch, steps=60)
    model, losses = descended(objective, batch, steps=60)
    assert losses[-1] < losses[0]
    for trained, gaps in ((plain, (-0.2, 0.2)), (model, (0.8, math.inf))):
        nll = trained.token_losses(batch)[0]
        assert gaps[0] < float(nll[1] - nll[0]) < gaps[1]


def test_the_value_head_learns_the_reward() -> None:
    objective = AdvantageWeighted(alpha=0.2, beta=1.0)
    batch = packed([[0.8] * 16], vocab=12)
    model, _ = descended(objective, batch, steps=150)
    values = values_of(model.states(batch), model.extra)
    assert values.mean().item() == pytest.approx(-0.8, abs=0.1)


def test_a_step_without_trained_tokens_has_loss_0_and_no_gradient() -> None:
    for objective in (Unlikelihood(threshold=0.5), RewardWeighted(), AdvantageWeighted()):
        model = StackedLlama.init(SHAPE, [0], n_extra=objective.n_extra(SHAPE.d_model))
        batch = packed([[0.3] * 8], [[0.0] * 8], vocab=12)
        loss, gradient = model.losses_and_gradient(batch, objective, START)
        assert loss.tolist() == [0.0]
        assert not gradient.any()


# phases and sums


def test_phases_switch_by_progress_and_keep_their_parameters_apart() -> None:
    first, last = AdvantageWeighted(alpha=0.4), AdvantageWeighted(alpha=0.9)
    objective = Phased(stages=((0.9, first), (1.0, last)))
    assert [objective.stage(x) for x in (0.0, 0.899, 0.9, 0.99, 1.0)] == [0, 0, 1, 1, 1]
    assert objective.n_extra(4) == 8
    batch = packed([[0.5] * 6])
    hidden, extra = torch.randn(1, 6, 4), torch.randn(1, 8)
    for progress, own, part in ((0.5, first, slice(0, 4)), (0.95, last, slice(4, 8))):
        at = At(step=1, progress=progress)
        found, alone = objective.terms(hidden, batch, extra, at), own.terms(hidden, batch, extra[:, part], at)
        assert torch.equal(found.auxiliary, alone.auxiliary)
        assert torch.equal(found.extra_gradient[:, part], alone.extra_gradient)
        rest = found.extra_gradient.clone()
        rest[:, part] = 0
        assert not rest.any()


@pytest.mark.parametrize("ends", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0), (0.5, 1.5)])
def test_phases_must_fill_the_plan(ends: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match="rising shares of the plan, the last at 1"):
        Phased(stages=tuple((end, Plain()) for end in ends))


class Taught(Plain):
    """A part with a teacher, for sums."""

    def terms(self, hidden: Any, batch: Any, extra: Any, at: At) -> Terms:
        return Terms(teacher_share=0.5)


def test_a_sum_with_a_teacher_keeps_the_shares_of_both() -> None:
    # 0.6 [0.5 nll + 0.5 CE] + 0.4 [2 nll]  =  0.7 T + 0.3 CE  with T = 1.1 / 0.7 nll
    batch = packed([[0.0] * 4])
    doubled = Combined(parts=((2.0, Plain()),))
    terms = Combined(parts=((0.6, Taught()), (0.4, doubled))).terms(
        torch.zeros(1, 4, 3), batch, torch.zeros(1, 0), START
    )
    assert terms.teacher_share == pytest.approx(0.3)
    loss, slope = terms.token_loss(torch.full((1, 4), 2.0), EVERYWHERE, EVERYWHERE)
    assert (0.7 * loss).tolist() == [pytest.approx([2.2] * 4)]
    assert (0.7 * slope).tolist() == [pytest.approx([1.1] * 4)]


def test_sums_that_the_contract_cannot_hold_are_refused() -> None:
    batch = packed([[0.0] * 4])
    for parts in (((1.0, Taught()), (1.0, Taught())), ((2.0, Taught()),)):
        with pytest.raises(RecipeError, match="objectives that can be summed"):
            Combined(parts=parts).terms(torch.zeros(1, 4, 3), batch, torch.zeros(1, 0), START)


def test_recipes_name_objectives() -> None:
    assert objective_of("plain") == Plain()
    assert objective_of({"unlikelihood": {"threshold": 0}}) == Unlikelihood(threshold=0)
    nested = objective_of(
        {"phased": {"stages": [
            {"until": 0.9, "objective": {"combined": {"parts": [{"weight": 1, "objective": "plain"}]}}},
            {"until": 1, "objective": "plain"},
        ]}}
    )  # fmt: skip
    assert json.loads(json.dumps(nested.as_record()))["settings"]["stages"][0]["until"] == 0.9


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("unlikelyhood", r"expected the name of an objective, found 'unlikelyhood'(.|\n)*'unlikelihood'"),
        ({"unlikelihood": {"treshold": 1}}, r"objective\.unlikelihood: unknown setting 'treshold'"),
        ({"reward_weighted": {"beta": 0}}, r"objective\.reward_weighted: beta and clip must be above 0"),
        ({"plain": {}, "unlikelihood": {}}, "expected one objective by name"),
        ({"phased": {"stages": [{"objective": "plain"}]}}, r"objective\.phased: expected \{stages: "),
        ({"phased": {"stages": [{"until": "x", "objective": "plain"}]}}, "until: a number"),
        ({"advantage_weighted": {"alpha": 2}}, "0 <= alpha <= 1"),
        ({"combined": {"parts": [{"weight": -1, "objective": "plain"}]}}, "finite and at least 0"),
    ],
)  # fmt: skip
def test_wrong_objectives_name_the_place(spec: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        objective_of(spec)


@pytest.mark.parametrize("name", OBJECTIVES.names)
def test_every_setting_is_described(name: str) -> None:
    entry = OBJECTIVES.entry(name)
    assert entry.description.endswith(".")
    assert all(setting.description.endswith(".") for setting in entry.settings)
