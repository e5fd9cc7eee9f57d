"""Real bases: each class of models behind the loop's contract, against the library's own forward pass."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from base_models import CONFIGS, VOCAB, divided_rows, make_base, make_tokenizer  # noqa: E402

from prill.errors import RecipeError  # noqa: E402
from prill.lm.bases.base import TransformersBase  # noqa: E402
from prill.lm.bases.learner import HfLearner  # noqa: E402
from prill.lm.bases.stored import StoredProxy, load_scorer, open_base  # noqa: E402
from prill.lm.checkpoint import save_model  # noqa: E402
from prill.lm.data import Rows  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.objectives.objective import At, Terms  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402
from prill.lm.shape import Shape  # noqa: E402

CPU = torch.device("cpu")
ROWS = divided_rows([[7, 17], [3, 20, 1]])  # longer than the windows of 6


def learner(folder: Path, *, dtype: Any = torch.float32, n_extra: int = 0, **changes: Any) -> HfLearner:
    start = TransformersBase(folder=folder, **changes)
    return start.learner([0], n_extra=n_extra, dtype=dtype, device=CPU)


def reference(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


def one_by_one(model: Any, rows: Rows) -> Any:
    """Losses of the library itself, each document alone, (N,)."""
    found = torch.zeros(rows.inputs.size)
    flat = rows.segments.reshape(-1)
    for number in np.unique(flat):
        here = np.flatnonzero(flat == number)
        ids = torch.from_numpy(rows.inputs.reshape(-1)[here])
        logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
        wanted = torch.from_numpy(rows.targets.reshape(-1)[here])
        found[here] = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    return found


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_packed_losses_and_gradients_are_those_of_each_document_alone(tmp_path: Path, kind: str) -> None:
    model = learner(make_base(tmp_path, kind), n_extra=2)
    theirs = reference(tmp_path)
    alone = one_by_one(theirs, ROWS)
    alone.mean().backward()

    batch = model.pack(ROWS)
    torch.testing.assert_close(model.token_losses(batch)[0], alone.detach(), rtol=1e-5, atol=1e-5)
    losses, gradient = model.losses_and_gradient(batch)
    torch.testing.assert_close(losses.float(), alone.mean().detach()[None], rtol=1e-5, atol=1e-5)
    parameters = dict(theirs.named_parameters())
    assert {slot.name for slot in model.skeleton.flat.slots} == set(parameters)
    for slot in model.skeleton.flat.slots:
        torch.testing.assert_close(slot.of(gradient), parameters[slot.name].grad, rtol=1e-4, atol=2e-6)
    assert torch.equal(gradient[:, -2:], torch.zeros(1, 2))
    vectors = sum(p.numel() for p in parameters.values() if p.dim() == 1)
    assert model.flat.shape[1] - 2 - model.n_decayed == vectors


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_layers_computed_again_give_the_same_gradient(tmp_path: Path, kind: str) -> None:
    make_base(tmp_path, kind)
    plain, again = learner(tmp_path), learner(tmp_path, is_checkpointed=True)
    _, expected = plain.losses_and_gradient(plain.pack(ROWS))
    _, found = again.losses_and_gradient(again.pack(ROWS))
    assert torch.equal(found, expected)


def test_bf16_computes_with_a_cast_copy_and_keeps_fp32_weights(tmp_path: Path) -> None:
    make_base(tmp_path)
    full, half = learner(tmp_path), learner(tmp_path, dtype=torch.bfloat16)
    assert half.flat.dtype == torch.float32
    assert torch.equal(half.flat, full.flat)
    expected, at_full = full.losses_and_gradient(full.pack(ROWS))
    found, at_half = half.losses_and_gradient(half.pack(ROWS))
    assert at_half.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)  # bf16 has 8 bits
    assert float((at_half - at_full).norm() / at_full.norm()) < 0.06


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_train_apart(tmp_path: Path, dtype: Any) -> None:
    model = learner(make_base(tmp_path), dtype=dtype)
    branch = model.copy()
    batch = model.pack(ROWS)
    before = model.token_losses(batch)
    optimizer = StackedAdamW(
        AdamSettings(),
        n_decayed=branch.n_decayed,
        first=torch.zeros_like(branch.flat),
        second=torch.zeros_like(branch.flat),
    )
    losses = []
    for _ in range(8):
        loss, gradient = branch.losses_and_gradient(batch)
        optimizer.step(branch.flat, gradient, [1e-2])
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 1
    assert torch.equal(model.token_losses(batch), before)
    assert float(branch.token_losses(batch).mean()) < losses[-1] + 0.1


def test_frozen_parts_get_no_columns_and_keep_their_bits(tmp_path: Path) -> None:
    make_base(tmp_path / "base", "llama-tied")
    model = learner(
        tmp_path / "base", dtype=torch.bfloat16, frozen=("model.embed_tokens.*", "model.layers.0.*")
    )
    names = {slot.name for slot in model.skeleton.flat.slots}
    assert not any(name.startswith(("model.embed", "model.layers.0.")) for name in names)
    _, gradient = model.losses_and_gradient(model.pack(ROWS))
    assert float(gradient.norm()) > 0
    model.flat.add_(0.5)
    model.save(tmp_path / "out", 0, {})
    before, after = (dict(reference(tmp_path / f).named_parameters()) for f in ("base", "out"))
    for name, value in before.items():
        assert torch.equal(after[name].data, value.data + 0.5 if name in names else value.data), name
    with pytest.raises(RecipeError, match=r"frozen: no parameter is called 'layers\.9\.\*'"):
        learner(tmp_path / "base", frozen=("layers.9.*",))
    with pytest.raises(RecipeError, match="found every parameter frozen"):
        learner(tmp_path / "base", frozen=("*",))


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt-neox"])
def test_an_export_has_equal_weights_and_its_tokenizer(tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", kind, vocab_size=300)
    make_tokenizer(base)
    model = learner(base)
    model.flat.mul_(1.25)
    files = model.save(tmp_path / "out", 0, {"label": "a"})
    assert files[-1].name == "config.json"
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    again = learner(tmp_path / "out")
    assert torch.equal(again.flat, model.flat)
    theirs = reference(tmp_path / "out")
    torch.testing.assert_close(
        model.token_losses(model.pack(ROWS))[0], one_by_one(theirs, ROWS).detach(), rtol=1e-5, atol=1e-5
    )
    assert not list((tmp_path / "out").glob(".tmp*"))


def test_a_large_export_is_sharded_and_replaces_an_older_one(tmp_path: Path) -> None:
    from prill.lm.bases.export import save_base

    model = learner(make_base(tmp_path / "base"))
    out = tmp_path / "out"
    save_base(model.skeleton, model.flat, out, {}, shard="50KB")
    assert (out / "model.safetensors.index.json").is_file()
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert torch.equal(learner(out).flat, model.flat)
    save_base(model.skeleton, model.flat, out, {})
    assert sorted(p.name for p in out.glob("*.safetensors*")) == ["model.safetensors"]
    assert torch.equal(learner(out).flat, model.flat)


@dataclasses.dataclass
class Asking:
    """An objective that uses every term."""

    n_tokens: int
    density: float = 0.0

    def n_extra(self, width: int) -> int:
        return 2

    def terms(self, hidden: Any, batch: Any, extra: Any, at: At) -> Terms:
        weights = torch.linspace(0, 2, self.n_tokens)[None]

        def doubled(nll: Any, models: slice, tokens: slice) -> tuple[Any, Any]:
            return nll**2 / 2, nll

        return Terms(
            weights=weights,
            token_loss=doubled,
            teacher_share=0.25,
            teacher=lambda models, tokens: torch.full((1, weights[0, tokens].numel(), VOCAB), 1 / VOCAB),
            auxiliary=(hidden.float() ** 2).sum((1, 2)) / 2,
            hidden_gradient=hidden.clone(),
            extra_gradient=torch.tensor([[3.0, 4.0]]),
            density=self.density,
        )

    def as_record(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite"])  # plain, capped and scaled heads
def test_every_term_of_an_objective_counts_as_autograd_says(tmp_path: Path, kind: str) -> None:
    model = learner(make_base(tmp_path, kind), n_extra=2)
    n_tokens = ROWS.inputs.size
    losses, gradient = model.losses_and_gradient(
        model.pack(ROWS), Asking(n_tokens=n_tokens), At(step=0, progress=0.0)
    )
    theirs = reference(tmp_path)
    total, flat = torch.zeros(()), ROWS.segments.reshape(-1)
    weights = torch.linspace(0, 2, n_tokens)
    for number in np.unique(flat):
        here = np.flatnonzero(flat == number)
        ids = torch.from_numpy(ROWS.inputs.reshape(-1)[here])[None]
        states = theirs.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        shares = torch.log_softmax(theirs(input_ids=ids, use_cache=False).logits[0], 1)
        wanted = torch.from_numpy(ROWS.targets.reshape(-1)[here])
        nll = -shares.gather(1, wanted[:, None])[:, 0]
        loss = 0.75 * nll**2 / 2 - 0.25 * shares.mean(1)
        total = total + (weights[here] * loss).sum() / (n_tokens - 1) + (states**2).sum() / 2
    total.backward()
    assert float(losses) == pytest.approx(total.item(), rel=1e-5)
    parameters = dict(theirs.named_parameters())
    for slot in model.skeleton.flat.slots:
        wanted = parameters[slot.name].grad
        torch.testing.assert_close(
            slot.of(gradient), wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max())
        )
    assert gradient[0, -2:].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("kind", "down"), [("llama", "down_proj"), ("gpt-neox", "dense_4h_to_h"), ("gpt2", "mlp.c_proj")]
)
def test_the_density_of_feed_forward_activations_counts(tmp_path: Path, kind: str, down: str) -> None:
    model = learner(make_base(tmp_path, kind), n_extra=2)
    batch, at = model.pack(ROWS), At(step=0, progress=0.0)
    plain, without = model.losses_and_gradient(batch, Asking(n_tokens=48), at)
    dense, with_it = model.losses_and_gradient(batch, Asking(n_tokens=48, density=0.5), at)

    theirs, seen = reference(tmp_path), []
    layers = [module for name, module in theirs.named_modules() if name.endswith(down)]
    for module in layers:
        module.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    one_by_one(theirs, ROWS)
    shares = [(h**2 / (h**2 + 1e-7)).sum() for h in seen]
    n_values = len(layers) * ROWS.inputs.size * seen[0].shape[-1]
    expected = 0.5 * sum(shares[1:], shares[0]) / n_values
    expected.backward()
    assert float(dense - plain) == pytest.approx(expected.item(), rel=1e-4)
    for name, parameter in theirs.named_parameters():
        slot = next(slot for slot in model.skeleton.flat.slots if slot.name == name)
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        close = 2e-3 * float(wanted.abs().max()) + 1e-5 * float(with_it.abs().max())
        torch.testing.assert_close(slot.of(with_it - without), wanted, rtol=0, atol=close)
    again = learner(tmp_path, n_extra=2, is_checkpointed=True)
    with pytest.raises(RecipeError, match="gradient checkpointing throws away"):
        again.losses_and_gradient(batch, Asking(n_tokens=48, density=0.5), at)


def test_visible_tokens_are_seen_by_those_before_them(tmp_path: Path) -> None:
    model = learner(make_base(tmp_path / "a"))
    visible = np.zeros(ROWS.inputs.shape, bool)
    visible[0, 0, :3] = True
    rows = dataclasses.replace(ROWS, visible=visible)
    causal, seen = model.token_losses(model.pack(ROWS)), model.token_losses(model.pack(rows))
    assert not torch.allclose(causal[0, :2], seen[0, :2], atol=1e-3)  # they see what is behind them
    assert torch.allclose(causal[0, 7:], seen[0, 7:], atol=1e-5)  # other documents do not
    theirs = reference(tmp_path / "a")
    mask = torch.ones(7, 7).tril()
    mask[:, :3] = 1
    logits = theirs(
        input_ids=torch.from_numpy(ROWS.inputs[0, :1, :7]),
        attention_mask=torch.where(mask.bool(), 0.0, -torch.inf)[None, None],
        use_cache=False,
    ).logits[0]
    wanted = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(ROWS.targets[0, 0, :7]), reduction="none"
    )
    torch.testing.assert_close(seen[0, :7], wanted.detach(), rtol=1e-5, atol=1e-5)
    windows = learner(make_base(tmp_path / "b", "mistral"))
    with pytest.raises(Exception, match="without windows and soft caps"):
        windows.token_losses(windows.pack(rows))


def test_tags_get_rows_that_begin_as_the_mean(tmp_path: Path) -> None:
    base = TransformersBase(folder=make_base(tmp_path / "base"), n_added=3)
    assert base.vocab_size == VOCAB + 3
    model = base.learner([0], n_extra=0, dtype=torch.float32, device=CPU)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        slot = next(slot for slot in model.skeleton.flat.slots if slot.name == name)
        table = slot.of(model.flat)
        assert table.shape[0] == VOCAB + 3
        torch.testing.assert_close(table[VOCAB:], table[:VOCAB].mean(0).expand(3, -1))
    model.save(tmp_path / "out", 0, {})
    assert TransformersBase(folder=tmp_path / "out").vocab_size == VOCAB + 3


def test_documents_open_with_the_token_the_model_was_trained_with(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    base = make_base(tmp_path / "base", vocab_size=300)
    tokenizer = Tokenizer.from_str(make_tokenizer(base).decode())
    plain = learner(base)
    assert plain.skeleton.opening_id is None
    tokenizer.add_special_tokens(["<s>"])
    opening = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", opening)]
    )
    tokenizer.save(str(base / "tokenizer.json"))
    model = learner(base)
    rows = dataclasses.replace(ROWS, inputs=np.where(ROWS.positions == 0, 0, ROWS.inputs))
    inputs = model.pack(rows).inputs.view(2, 24).numpy()
    assert np.array_equal(inputs == opening, ROWS.positions[0] == 0)
    assert np.array_equal(inputs[inputs != opening], rows.inputs[0][inputs != opening])


def test_what_a_base_says_of_itself(tmp_path: Path) -> None:
    base = TransformersBase(folder=make_base(tmp_path))
    d, f, kv, layers, context = 32, 48, 16, 3, 64
    blocks = layers * (2 * d * d + 2 * d * kv + 3 * d * f + 2 * d) + d
    assert base.n_params == blocks
    assert (base.vocab_size, base.context, base.width()) == (VOCAB, context, d)
    # 6 (N + V d) + 6 L T d; adapters leave out the weights' third
    assert base.flops_per_token == 6 * (blocks + VOCAB * d) + 6 * layers * context * d
    assert TransformersBase(folder=tmp_path, max_context=16).context == 16
    record = base.as_record()
    assert set(record["files"]) == {"config.json", "model.safetensors"}
    moved = make_base(tmp_path / "again")
    assert TransformersBase(folder=moved, is_checkpointed=True).as_record() == record
    with pytest.raises(RecipeError, match="at most the model's 64 tokens, found 65"):
        _ = TransformersBase(folder=tmp_path, max_context=65).context
    with pytest.raises(RecipeError, match="trains alone, found 2 models to stack"):
        base.learner([0, 1], n_extra=0, dtype=torch.float32, device=CPU)


def repeated(n_models: int) -> Rows:
    """The same rows for every model."""
    names = ("inputs", "targets", "positions", "segments")
    return Rows(**{name: np.repeat(getattr(ROWS, name), n_models, 0) for name in names})


def test_own_checkpoints_go_on_as_a_stack(tmp_path: Path) -> None:
    shape = Shape(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=32)
    trained = StackedLlama.init(shape, [3, 4])
    save_model(tmp_path, trained, 1)
    start = open_base(tmp_path, max_context=24, n_added=2)
    assert isinstance(start, StoredProxy)
    assert (start.vocab_size, start.context) == (VOCAB + 2, 24)
    model = start.learner([0, 1, 2], n_extra=5, dtype=torch.float32, device=CPU)
    assert model.flat.shape == (3, start.shape.n_total + 5)
    expected = trained.token_losses(trained.pack(repeated(2)))[1]
    found = model.token_losses(model.pack(repeated(3)))
    # two more logits, of the mean embedding, make every loss a little larger
    assert torch.all(found > expected)
    assert torch.allclose(found, expected.expand(3, -1), atol=0.1)
    scorer = load_scorer(tmp_path, dtype=torch.float32, device=CPU)
    assert torch.equal(scorer.flat[0], trained.flat[1])
    with pytest.raises(RecipeError, match="found one of Prill's checkpoints"):
        open_base(tmp_path, frozen=("embedding",))
