"""Adapters: what the card of the LoRA family lets one check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from base_models import divided_rows, make_base, make_tokenizer  # noqa: E402

from prill.errors import DataError, RecipeError  # noqa: E402
from prill.lm.bases.adapters import Lora, adapted_layers  # noqa: E402
from prill.lm.bases.base import TransformersBase  # noqa: E402
from prill.lm.bases.export import merge_adapters  # noqa: E402
from prill.lm.bases.learner import HfLearner  # noqa: E402
from prill.lm.bases.stored import load_scorer  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402

CPU = torch.device("cpu")
ROWS = divided_rows([[7, 17], [3, 20, 1]])
KINDS = {
    "plain": Lora(rank=3),
    "layra": Lora(rank=3, first_layers=1, last_layers=1),
    "magnitudes": Lora(rank=2, has_magnitudes=True),
    "stable": Lora(rank=4, alpha=8, is_rank_stable=True),
}


def learner(
    folder: Path, lora: Lora | None = None, *, seed: int = 0, dtype: Any = torch.float32
) -> HfLearner:
    return TransformersBase(folder=folder, lora=lora).learner([seed], n_extra=0, dtype=dtype, device=CPU)


def trained(model: HfLearner, n_steps: int = 6) -> HfLearner:
    batch = model.pack(ROWS)
    blank = torch.zeros_like(model.flat)
    optimizer = StackedAdamW(AdamSettings(), n_decayed=model.n_decayed, first=blank, second=blank.clone())
    losses = []
    for _ in range(n_steps):
        loss, gradient = model.losses_and_gradient(batch)
        optimizer.step(model.flat, gradient, [1e-2])
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.3
    return model


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt-neox", "gpt2"])
def test_adapters_begin_as_the_base_itself(tmp_path: Path, kind: str) -> None:
    make_base(tmp_path, kind)
    base, adapted = learner(tmp_path), learner(tmp_path, Lora(rank=3))
    assert torch.equal(adapted.token_losses(adapted.pack(ROWS)), base.token_losses(base.pack(ROWS)))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_merged_weights_do_what_base_and_adapters_did(tmp_path: Path, kind: str) -> None:
    lora = KINDS[kind]
    base = make_base(tmp_path / "base", vocab_size=300)
    make_tokenizer(base)
    model = trained(learner(base, lora))
    model.save(tmp_path / "adapters", 0, {"label": "a"})
    merge_adapters(tmp_path / "adapters", tmp_path / "merged")
    merged = learner(tmp_path / "merged")
    expected = model.token_losses(model.pack(ROWS))
    torch.testing.assert_close(merged.token_losses(merged.pack(ROWS)), expected, rtol=1e-5, atol=1e-5)
    scorer = load_scorer(tmp_path / "adapters", dtype=torch.float32, device=CPU)
    torch.testing.assert_close(scorer.token_losses(scorer.pack(ROWS)), expected, rtol=1e-5, atol=1e-5)
    assert (tmp_path / "merged/tokenizer.json").is_file()

    parts = [
        dict(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / f).named_parameters())
        for f in ("base", "merged")
    ]
    chosen = adapted_layers(lora, 3) or [0, 1, 2]
    for name, before in parts[0].items():
        change = parts[1][name] - before
        is_adapted = "_proj." in name and int(name.split(".")[2]) in chosen
        assert bool(change.any()) == is_adapted, name
        if is_adapted and not lora.has_magnitudes:
            assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= lora.rank


def test_adapters_are_as_many_as_the_formula_says(tmp_path: Path) -> None:
    # a Llama layer with d = 32, kv = 16, f = 48: r (2d + 2 (d + kv) + 2d + 3 (d + f)), card of LayRA
    make_base(tmp_path)
    per_layer = 3 * (64 + 2 * 48 + 64 + 3 * 80)
    assert learner(tmp_path, Lora(rank=3)).flat.shape == (1, 3 * per_layer)
    assert learner(tmp_path, KINDS["layra"]).flat.shape == (1, 2 * per_layer)
    attention = learner(tmp_path, Lora(rank=3, targets=("q_proj", "v_proj")))
    assert attention.flat.shape == (1, 3 * 3 * (64 + 48))
    assert attention.n_decayed == attention.flat.shape[1]


def test_adapters_start_by_seed_and_leave_the_global_generator_alone(tmp_path: Path) -> None:
    make_base(tmp_path)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = learner(tmp_path, Lora(rank=3), seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(learner(tmp_path, Lora(rank=3), seed=5).flat, first.flat)
    other = learner(tmp_path, Lora(rank=3), seed=6)
    assert not torch.equal(other.flat, first.flat)
    values = first.flat[first.flat != 0]  # A: uniform within 1 / sqrt(d_in), of 32 or 48
    assert 0.95 / 32**0.5 < float(values.abs().max()) <= 1 / 32**0.5


def test_gradients_of_adapters_are_those_of_the_library(tmp_path: Path) -> None:
    make_base(tmp_path)
    model = trained(learner(tmp_path, Lora(rank=3)), 3)
    _, exact = model.losses_and_gradient(model.pack(ROWS))
    half = learner(tmp_path, Lora(rank=3), dtype=torch.bfloat16)
    half.flat.copy_(model.flat)
    _, found = half.losses_and_gradient(half.pack(ROWS))
    assert float((found - exact).norm() / exact.norm()) < 0.06

    logits = model.skeleton.wrapped(
        input_ids=torch.from_numpy(ROWS.inputs[0, :1, :7]),
        use_cache=False,
        prill_division=model.pack(divided_rows([[7]])).division,
    ).logits[0]
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(ROWS.targets[0, 0, :7]))
    expected = torch.autograd.grad(loss, [slot.parameter for slot in model.skeleton.flat.slots])
    one = divided_rows([[7]])
    one.inputs[:], one.targets[:] = ROWS.inputs[:, :1, :7], ROWS.targets[:, :1, :7]
    _, gradient = model.losses_and_gradient(model.pack(one))
    for slot, wanted in zip(model.skeleton.flat.slots, expected, strict=True):
        torch.testing.assert_close(slot.of(gradient), wanted, rtol=1e-4, atol=1e-6)


def test_wrong_settings_are_all_told() -> None:
    with pytest.raises(RecipeError, match="`rank` must be at least 1, found 0") as caught:
        Lora(rank=0, alpha=-1)
    assert len(caught.value.problems) == 2
    with pytest.raises(RecipeError, match="at least one adapted layer, found 0"):
        Lora(first_layers=0, last_layers=0)
    with pytest.raises(RecipeError, match="at most the model's 3 layers, found 4 and 0"):
        adapted_layers(Lora(first_layers=4), 3)
    assert adapted_layers(Lora(first_layers=2, last_layers=2), 3) == [0, 1, 2]


def test_names_that_no_matrix_has_are_told_with_those_there_are(tmp_path: Path) -> None:
    make_base(tmp_path)
    with pytest.raises(RecipeError, match="no matrix of LlamaForCausalLM is called 'wq'") as caught:
        learner(tmp_path, Lora(targets=("wq",)))
    assert "down_proj, gate_proj, k_proj" in str(caught.value)


def test_adapters_without_their_base_or_of_another_are_told(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    model = learner(base, Lora(rank=3))
    model.save(tmp_path / "adapters", 0, {})
    wide = make_base(tmp_path / "wide", intermediate_size=56)
    with pytest.raises(DataError, match=r"expected adapters of this base, found: .*size mismatch"):
        merge_adapters(tmp_path / "adapters", tmp_path / "merged", base=wide)
    base.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="expected the base of the adapters as a local folder"):
        merge_adapters(tmp_path / "adapters", tmp_path / "merged")
    (tmp_path / "adapters/adapter_model.safetensors").rename(tmp_path / "adapters/adapter_model.bin")
    with pytest.raises(DataError, match=r"expected adapter_model\.safetensors, found none"):
        merge_adapters(tmp_path / "adapters", tmp_path / "merged", base=tmp_path / "moved")
