"""Teachers, soft labels, self-distillation and density: published numbers, gradients, whole trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.checkpoint import load_model
from prill.lm.data import Rows, Soft, TokenStream, batch, stack_rows
from prill.lm.feed.soft import ROWS_A_FILE, SoftFeed, store_soft_labels
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.objectives.density import Density
from prill.lm.objectives.objective import At
from prill.lm.objectives.registry import OBJECTIVES
from prill.lm.objectives.self_distillation import SelfDistillation, matched_weight, two_pass
from prill.lm.objectives.soft_labels import SoftLabels, top_k
from prill.lm.objectives.teacher import FrozenTeacher
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.shape import Shape
from prill.lm.train import Run, TrainSettings, train

torch = pytest.importorskip("torch")

from prill.lm.head import head_backward  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
LARGER = Shape(vocab_size=40, d_model=24, n_layers=1, n_heads=2, d_ff=32, seq_len=32, rope_theta=500.0)
START = At(step=0, progress=0.0)


def stream(seed: int = 0) -> TokenStream:
    rng = np.random.default_rng(seed)
    docs = [np.cumsum(rng.integers(1, 4, size=int(rng.integers(5, 30)))) % 39 + 1 for _ in range(80)]
    return TokenStream.from_documents(docs, eos=0)


def rows(n_models: int = 2) -> Rows:
    return stack_rows([batch(stream(k), np.arange(3), seq_len=16) for k in range(n_models)])


class LogitsTeacher:
    """A model whose hidden states are the given logits."""

    n_models = 1

    def __init__(self, logits: Any) -> None:
        self.flat = logits

    def pack(self, rows: Rows) -> Any:
        return rows

    def states(self, batch: Any) -> Any:
        return self.flat

    def head_matrix(self) -> Any:
        return torch.eye(self.flat.shape[2])[None]


@pytest.mark.parametrize(
    ("temperature", "teacher", "kd", "mix"),
    [(0.25, (0.981690, 0.017980, 0.000329), 0.862324, 0.862214), (1.0, None, 0.952025, 0.922045)],
)
def test_salt_of_three_logits(temperature: float, teacher: Any, kd: float, mix: float) -> None:
    student, head = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.eye(3)[None]
    frozen = FrozenTeacher(model=LogitsTeacher(torch.tensor([[[2.0, 1.0, 0.0]]])))
    if teacher:
        given = frozen.shares(frozen.model.states(None), slice(0, 1), slice(0, 1), temperature=temperature)
        assert torch.allclose(given[0, 0], torch.tensor(teacher), atol=1e-6)
    for share, expected in ((0.0, 0.861995), (1.0, kd), (0.667, mix)):
        objective = SoftLabels(share=share, temperature=temperature, teacher=frozen)
        packed = StackedLlama.init(SHAPE, [0]).pack(stack_rows([batch(stream(), np.arange(1), seq_len=1)]))
        terms = objective.terms(student, packed, torch.zeros(1, 0), START)
        into = torch.empty(1, 3, 3)
        loss, gradient = head_backward(student, head, torch.tensor([[0]]), into, terms=terms)
        assert float(loss[0]) == pytest.approx(expected, abs=1e-6)
    if temperature == 0.25:  # the last is the mix
        at_share = SoftLabels(share=0.667, temperature=0.25, teacher=frozen)
        terms = at_share.terms(student, packed, torch.zeros(1, 0), START)
        _, gradient = head_backward(student, head, torch.tensor([[0]]), into, terms=terms)
        assert torch.allclose(gradient[0, 0], torch.tensor([-0.565469, 0.410326, 0.155143]), atol=1e-6)
        assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-6)


def test_the_teacher_is_asked_until_the_switch() -> None:
    hard = SoftLabels(share=0.6)
    assert hard.until == pytest.approx(0.173, abs=1e-3)
    assert [hard.share_at(p) for p in (0.0, 0.17, 36 / 208, 0.9)] == [0.6, 0.6, 0.0, 0.0]
    ramped = SoftLabels(share=0.6, until=0.5, ramp=0.2)
    assert [ramped.share_at(p) for p in (0.1, 0.3, 0.4, 0.5)] == pytest.approx([0.6, 0.6, 0.3, 0.0])
    model = StackedLlama.init(SHAPE, [0, 1])
    packed = model.pack(rows())
    taught = SoftLabels(teacher=FrozenTeacher(model=StackedLlama.init(SHAPE, [5])))
    late = model.losses_and_gradient(packed, taught, At(step=50, progress=0.5))
    plain = model.losses_and_gradient(packed)
    early = model.losses_and_gradient(packed, taught, START)
    assert torch.equal(late[1], plain[1])
    assert not torch.allclose(early[1], plain[1])


@pytest.mark.parametrize("n_teachers", [1, 2])
def test_teachers_of_another_shape_teach_every_student(n_teachers: int) -> None:
    model = StackedLlama.init(SHAPE, [0, 1])
    teacher = StackedLlama.init(LARGER, list(range(7, 7 + n_teachers)))
    packed = model.pack(rows())
    objective = SoftLabels(share=0.3, temperature=2.0, until=1.0, teacher=FrozenTeacher(model=teacher))
    losses, gradient = model.losses_and_gradient(packed, objective, START)
    for k in range(2):
        alone = StackedLlama(SHAPE, model.flat[k : k + 1].clone())
        its_teacher = StackedLlama(LARGER, teacher.flat[k % n_teachers][None].clone())
        one = stack_rows([batch(stream(k), np.arange(3), seq_len=16)])
        own = alone.pack(one)
        shares = torch.softmax(its_teacher.logits(own) / 2.0, 2)
        nll = -torch.log_softmax(alone.logits(own), 2)
        expected = 0.7 * nll.gather(2, own.targets[:, :, None])[..., 0] + 0.3 * (shares * nll).sum(2)
        assert float(losses[k]) == pytest.approx(float(expected.mean()), rel=1e-5)
        solo = SoftLabels(share=0.3, temperature=2.0, until=1.0, teacher=FrozenTeacher(model=its_teacher))
        assert torch.allclose(gradient[k], alone.losses_and_gradient(own, solo, START)[1][0], atol=1e-6)


def test_a_teacher_that_says_the_truth_changes_nothing() -> None:
    model = StackedLlama.init(SHAPE, [0, 1])
    given = rows()
    truth = Soft(ids=given.targets[..., None], shares=np.ones((*given.targets.shape, 1), np.float32))
    soft = Rows(**(vars(given) | {"soft": truth}))
    taught = model.losses_and_gradient(model.pack(soft), SoftLabels(share=0.9), START)
    plain = model.losses_and_gradient(model.pack(given))
    assert torch.allclose(taught[0], plain[0], atol=1e-6)
    assert torch.allclose(taught[1], plain[1], atol=1e-6)


def test_stored_labels_of_all_tokens_equal_the_teacher_and_the_rest_pulls_nowhere() -> None:
    model, teacher = StackedLlama.init(SHAPE, [0]), StackedLlama.init(LARGER, [3])
    given = rows(1)
    packed = model.pack(given)
    shares = torch.softmax(teacher.logits(packed) / 0.5, 2).view(1, 3, 16, -1)
    asked = SoftLabels(temperature=0.5, teacher=FrozenTeacher(model=teacher))
    for k, equal in ((40, True), (4, False)):
        stored = model.pack(Rows(**(vars(given) | {"soft": top_k(shares, k)})))
        one = model.losses_and_gradient(stored, SoftLabels(), START)
        two = model.losses_and_gradient(packed, asked, START)
        assert torch.allclose(one[1], two[1], atol=1e-6) is equal
    few = top_k(shares, 4)
    assert np.all(np.diff(few.shares) <= 0)
    remainder = 1 - few.shares.sum(-1)
    assert remainder.max() > 0.1
    stored = model.pack(Rows(**(vars(given) | {"soft": few})))
    loss, _ = head_backward(
        torch.zeros(1, 1, 2),
        torch.zeros(1, 40, 2),
        torch.tensor([[0]]),
        torch.empty(1, 40, 2),
        terms=SoftLabels(share=1.0).terms(torch.zeros(1, 1, 2), stored, torch.zeros(1, 0), START),
        soft=stored.soft,
    )
    # a uniform student pays log V for the mass that the labels hold
    assert float(loss[0]) == pytest.approx(np.log(40) * float(few.shares[0, 0, 0].sum()), rel=1e-5)


def test_a_training_on_stored_labels_equals_one_that_asks(tmp_path: Path) -> None:
    teacher = FrozenTeacher(model=StackedLlama.init(LARGER, [3]))
    feed = StreamFeed(stream=stream(), row_tokens=16, seed=1)
    store_soft_labels(tmp_path / "all", feed, teacher, n_rows=50, k=40, temperature=0.5)
    stored = SoftFeed(feed=feed, folder=tmp_path / "all")
    share = {"share": 0.5, "temperature": 0.5, "until": 0.8}
    asked = trained(tmp_path / "asked", SoftLabels(**share, teacher=teacher))
    read = trained(tmp_path / "read", SoftLabels(**share), feed=stored)
    assert torch.allclose(asked.flat, read.flat, atol=2e-5)
    assert not torch.allclose(asked.flat, trained(tmp_path / "plain", None).flat, atol=1e-3)
    assert stored.digest() != feed.digest()
    assert stored.highest_id == 39


def test_stored_labels_are_read_in_any_portion_and_end(tmp_path: Path) -> None:
    teacher = FrozenTeacher(model=StackedLlama.init(LARGER, [3]))
    long = TokenStream.from_documents([np.arange(1, 1200) % 39 + 1] * 3, eos=0)
    feed = StreamFeed(stream=long, row_tokens=8, seed=1)
    store_soft_labels(tmp_path, feed, teacher, n_rows=100, k=3, temperature=1.0)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(first) == 2
    store_soft_labels(tmp_path, feed, teacher, n_rows=100, k=3, temperature=1.0, at_once=5)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == first
    stored = SoftFeed(feed=feed, folder=tmp_path)
    whole = stored.rows(0, 2 * ROWS_A_FILE + 5).soft
    assert np.all(whole.shares[:100].sum(-1) > 0)
    assert not whole.shares[100:].any()
    part = stored.rows(ROWS_A_FILE - 3, 9).soft
    assert np.array_equal(part.ids, whole.ids[ROWS_A_FILE - 3 : ROWS_A_FILE + 6])
    packed = teacher.model.pack(stack_rows([feed.rows(70, 1)]))
    expected = torch.softmax(teacher.model.logits(packed), 2)[0].topk(3).values
    assert np.allclose(whole.shares[70], expected, atol=1e-6)
    before = stored.digest()
    store_soft_labels(tmp_path, feed, teacher, n_rows=ROWS_A_FILE + 40, k=3, temperature=1.0)
    longer = SoftFeed(feed=feed, folder=tmp_path)
    assert longer.digest() != before
    assert longer.rows(103, 1).soft.shares.all()
    with pytest.raises(DataError, match="labels with k 4, found 3"):
        store_soft_labels(tmp_path, feed, teacher, n_rows=1, k=4, temperature=1.0)
    other = StreamFeed(stream=long, row_tokens=8, seed=2)
    with pytest.raises(DataError, match="those of another"):
        SoftFeed(feed=other, folder=tmp_path)
    with pytest.raises(DataError, match="found none"):
        SoftFeed(feed=feed, folder=tmp_path / "none")
    with pytest.raises(RecipeError, match="found 0 and 1"):
        store_soft_labels(tmp_path, feed, teacher, n_rows=1, k=0, temperature=1.0)


def test_equal_probabilities_are_kept_by_id() -> None:
    assert top_k(torch.full((1, 6), 1 / 6), 3).ids.tolist() == [[0, 1, 2]]


def test_distance_to_the_teacher_has_the_stated_gradient() -> None:
    teacher = StackedLlama.init(SHAPE, [4])
    student = StackedLlama.init(SHAPE, [0, 1])
    packed = student.pack(rows())
    hidden = student.states(packed).clone().requires_grad_()
    for reduce, count in (("mean", 48 * 16), ("sum", 48)):
        objective = SelfDistillation(weight=0.5, reduce=reduce, teacher=FrozenTeacher(model=teacher))
        terms = objective.terms(hidden.detach(), packed, torch.zeros(2, 0), START)
        wanted = torch.cat([teacher.states(StackedLlama.init(SHAPE, [0]).pack(_of(k))) for k in range(2)])
        loss = 0.5 * (hidden - wanted).square().sum((1, 2)) / count
        (gradient,) = torch.autograd.grad(loss.sum(), hidden)
        assert torch.allclose(terms.auxiliary, loss.detach(), rtol=1e-5)
        assert torch.allclose(terms.hidden_gradient, gradient, atol=1e-7)


def _of(k: int) -> Rows:
    return stack_rows([batch(stream(k), np.arange(3), seq_len=16)])


def test_at_the_teacher_the_pull_is_zero_and_the_teacher_stays() -> None:
    student = StackedLlama.init(SHAPE, [0])
    objective = SelfDistillation(weight=3.0, teacher=FrozenTeacher(model=student.copy()))
    before, packed = objective.teacher.digest, student.pack(rows(1))
    pulled, plain = student.losses_and_gradient(packed, objective, START), student.losses_and_gradient(packed)
    assert torch.equal(pulled[1], plain[1])
    student.flat.sub_(plain[1], alpha=0.1)
    student.losses_and_gradient(packed, objective, START)
    assert FrozenTeacher(model=objective.teacher.model).digest == before
    assert FrozenTeacher(model=student).digest != before


def test_a_large_weight_recovers_the_teacher() -> None:
    teacher, student = StackedLlama.init(SHAPE, [0]), StackedLlama.init(SHAPE, [0])
    teacher.flat += 0.05 * torch.randn(teacher.flat.shape, generator=torch.Generator().manual_seed(0))
    objective = SelfDistillation(weight=1e4, teacher=FrozenTeacher(model=teacher))
    packed = student.pack(rows(1))

    def distance() -> float:
        return float((student.states(packed) - teacher.states(packed)).square().mean())

    first = distance()
    moment = torch.zeros_like(student.flat)
    for _ in range(150):
        _, gradient = student.losses_and_gradient(packed, objective, START)
        moment.mul_(0.9).add_(gradient / gradient.norm())
        student.flat.sub_(moment, alpha=0.01)
    assert distance() < 0.05 * first


def test_the_weight_can_be_matched_to_the_gradients() -> None:
    student, teacher = StackedLlama.init(SHAPE, [0]), StackedLlama.init(SHAPE, [0])
    packed = student.pack(rows(1))
    with pytest.raises(RecipeError, match="differs from the student"):
        matched_weight(student, packed, SelfDistillation(teacher=FrozenTeacher(model=teacher)))
    teacher.flat += 0.1
    objective = SelfDistillation(teacher=FrozenTeacher(model=teacher))
    weight = matched_weight(student, packed, objective, ratio=0.5)
    matched = SelfDistillation(weight=weight, teacher=objective.teacher)
    plain = student.losses_and_gradient(packed)[1]
    pull = student.losses_and_gradient(packed, matched, START)[1] - plain
    assert float(pull.norm() / plain.norm()) == pytest.approx(0.5, rel=1e-3)


def trained(folder: Path, objective: Any, feed: Any = None) -> StackedLlama:
    settings = TrainSettings(
        start=Fresh(shape=SHAPE),
        branch_tokens=(960,),
        batches=BatchTable.constant(n_rows=2, row_tokens=16),
        schedule=ScheduleSpec(wsd=WsdSpec(warmup="3 steps")),
        objective=objective,
        precision="fp32",
        device="cpu",
    )
    plain = StreamFeed(stream=stream(), row_tokens=16, seed=1)
    run = Run(label="one", seed=3, feed=feed or plain)
    train([run], settings, models_dir=folder)
    return load_model(next(folder.rglob("model.safetensors")).parent)[0]


def test_two_passes_start_from_the_same_weights(tmp_path: Path) -> None:
    def of(weight: float) -> StackedLlama:
        def step(teacher: StackedLlama | None) -> StackedLlama:
            objective = None
            if teacher is not None:
                objective = SelfDistillation(weight=weight, teacher=FrozenTeacher(model=teacher))
            return trained(tmp_path / f"{weight}-{teacher is None}", objective)

        return two_pass(step)

    plain = trained(tmp_path / "plain", None)
    assert torch.equal(of(0.0).flat, plain.flat)  # weight 0 is the teacher's run, bit for bit
    theta0 = StackedLlama.init(SHAPE, [3])
    pulled = of(30.0)
    packed = plain.pack(rows(1))
    gap = (pulled.states(packed) - plain.states(packed)).square().mean()
    assert float(gap) < float((theta0.states(packed) - plain.states(packed)).square().mean())
    assert not torch.equal(pulled.flat, plain.flat)


def test_rounds_of_self_distillation_shrink_a_ridge_regression() -> None:
    rng = np.random.RandomState(0)  # the generator of the published numbers
    x = rng.normal(size=(20, 50))
    y = x @ rng.normal(0, 0.3, size=50) + rng.normal(0, 0.5, size=20)

    def fit(target: Any) -> Any:
        return np.linalg.solve(x.T @ x + 5 * np.eye(50), x.T @ target)

    def mixed(teacher: Any) -> Any:
        return fit(y if teacher is None else 0.5 * y + 0.5 * x @ teacher)

    norms = [np.linalg.norm(two_pass(mixed, rounds=n)) for n in range(3)]
    pure = np.linalg.norm(two_pass(lambda teacher: fit(y if teacher is None else x @ teacher)))
    assert [*norms, pure] == pytest.approx([0.9391, 0.8756, 0.8500, 0.8139], abs=1e-4)


def test_density_is_penalised_layer_by_layer() -> None:
    model = StackedLlama.init(SHAPE, [0, 1])
    packed = model.pack(rows())
    plain = model.losses_and_gradient(packed)
    eps = 1e-2
    given = model.losses_and_gradient(packed, Density(weight=0.7, eps=eps), START)
    share = (given[0] - plain[0]) / 0.7
    assert torch.all((share > 0) & (share < 1))
    # the gradient against a difference along itself
    direction = given[1] / given[1].norm()
    losses = []
    for step in (1e-3, -1e-3):
        moved = StackedLlama(SHAPE, model.flat + step * direction)
        losses.append(float(moved.losses_and_gradient(packed, Density(weight=0.7, eps=eps), START)[0].sum()))
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(float(given[1].norm()), rel=2e-2)
    for _ in range(60):
        model.flat.sub_(model.losses_and_gradient(packed, Density(weight=2.0, eps=eps), START)[1], alpha=0.05)
    after = model.losses_and_gradient(packed, Density(weight=1.0, eps=eps), START)[0]
    assert torch.all(after - model.losses_and_gradient(packed)[0] < 0.8 * share)


@pytest.mark.parametrize("teacher_type", [torch.float32, torch.bfloat16])
def test_students_in_half_precision_take_nearly_the_same_step(teacher_type: Any) -> None:
    own = StackedLlama.init(SHAPE, [4])
    teacher = FrozenTeacher(model=StackedLlama(SHAPE, own.flat, dtype=teacher_type))
    for objective in (
        SoftLabels(share=0.5, temperature=1.0, teacher=teacher),
        SelfDistillation(weight=5.0, teacher=teacher),
        Density(eps=1e-2),
    ):
        found = []
        for dtype in (torch.float32, torch.bfloat16):
            model = StackedLlama.init(SHAPE, [0, 1], dtype=dtype)
            found.append(model.losses_and_gradient(model.pack(rows()), objective, START))
        assert torch.allclose(found[0][0], found[1][0], rtol=0.02)
        assert torch.all(torch.cosine_similarity(found[0][1], found[1][1], dim=1) > 0.99)


def test_settings_are_checked_and_recorded() -> None:
    for name, wrong, text in (
        ("soft_labels", {"share": 1.5, "temperature": 0.0, "ramp": 0.9}, "`share` must be from 0 to 1"),
        ("self_distillation", {"weight": -1.0}, "0 or more, found -1.0"),
        ("self_distillation", {"reduce": "max"}, "found 'max'"),
        ("density", {"eps": 0.0}, "above 0, found 0.0"),
    ):
        with pytest.raises(RecipeError, match=text):
            OBJECTIVES.build(name, wrong, where="train.objective")
    teacher = FrozenTeacher(model=StackedLlama.init(SHAPE, [0]))
    made = OBJECTIVES.build("soft_labels", {"share": 0.5}, given={"teacher": teacher})
    assert made.as_record()["teacher"] == teacher.digest
    with pytest.raises(RecipeError, match="found 40 and 41"):
        teacher.require(vocab_size=41)
    student = StackedLlama.init(SHAPE, [0, 1, 2])
    two = FrozenTeacher(model=StackedLlama.init(SHAPE, [0, 1]))
    with pytest.raises(RecipeError, match="one teacher, or one for each of 3 students, found 2"):
        student.losses_and_gradient(student.pack(rows(3)), SoftLabels(teacher=two), START)
    wide = SelfDistillation(teacher=FrozenTeacher(model=StackedLlama.init(LARGER, [0])))
    with pytest.raises(RecipeError, match="found widths 16 and 24"):
        student.losses_and_gradient(student.pack(rows(3)), wide, START)
    with pytest.raises(RecipeError, match="rows with stored soft labels, found neither"):
        student.losses_and_gradient(student.pack(rows(3)), SoftLabels(), START)
    with pytest.raises(RecipeError, match="expected a teacher, found none"):
        student.losses_and_gradient(student.pack(rows(3)), SelfDistillation(), START)
