"""Models on disk: our own folder, and a transformers Llama folder with equal logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prill.errors import DataError
from prill.lm.data import Rows
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm.checkpoint import load_model, read_shape, save_model  # noqa: E402
from prill.lm.hf import export_llama, import_llama  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402


def stack(*, tied: bool) -> StackedLlama:
    shape = Shape(
        vocab_size=60, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=32, tied=tied, rope_theta=5000.0
    )
    found = StackedLlama.init(shape, [1, 2])
    found.flat += 0.1 * torch.randn(found.flat.shape, generator=torch.Generator().manual_seed(3))
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path, tied: bool) -> None:
    model = stack(tied=tied)
    save_model(tmp_path, model, 1, {"label": "a"})
    loaded, meta = load_model(tmp_path)
    assert loaded.shape == model.shape
    assert meta == {"label": "a"}
    assert torch.equal(loaded.flat[0], model.flat[1])


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    weights, _ = save_model(tmp_path, stack(tied=True), 0)
    content = bytearray(weights.read_bytes())
    content[-100] ^= 4
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors: the content differs from the checksum"):
        load_model(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"only pickled weights \(pytorch_model\.bin\), which can run code"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(llama_config()))
    with pytest.raises(DataError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        import_llama(tmp_path)


def llama_config() -> dict[str, object]:
    return {
        "model_type": "llama",
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 32,
    }


def test_what_the_family_cannot_say_is_refused_at_once(tmp_path: Path) -> None:
    config = llama_config() | {
        "num_key_value_heads": 1,
        "mlp_bias": True,
        "rope_scaling": {"rope_type": "yarn"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="`mlp_bias` must be False, found True") as caught:
        import_llama(tmp_path)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_gives_equal_logits_both_ways(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    model = stack(tied=tied)
    export_llama(tmp_path, model, 1, eos_id=0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = np.random.default_rng(0).integers(0, 60, size=(2, 3, 20))
    ids[0] = ids[1]
    positions = np.broadcast_to(np.arange(20), ids.shape)
    rows = Rows(inputs=ids, targets=ids, positions=positions.copy(), segments=np.zeros_like(ids))
    ours = model.logits(model.pack(rows))[1].view(3, 20, 60)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids[1])).logits
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert theirs.config.eos_token_id == 0

    theirs.save_pretrained(tmp_path / "again")
    back = import_llama(tmp_path / "again")
    assert back.shape == model.shape
    assert torch.equal(back.flat[0], model.flat[1])


def test_the_tokenizer_travels_with_the_export(tmp_path: Path) -> None:
    files = export_llama(tmp_path, stack(tied=True), 0, tokenizer_json=b'{"version": "1.0"}')
    assert sorted(f.name for f in files) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (tmp_path / "tokenizer.json").read_bytes() == b'{"version": "1.0"}'


def test_a_model_that_has_diverged_is_not_loaded(tmp_path: Path) -> None:
    model = stack(tied=True)
    model.flat[1, 5] = torch.nan
    save_model(tmp_path, model, 1)
    assert read_shape(tmp_path) == model.shape  # the header alone is fine
    with pytest.raises(
        DataError, match=r"model\.safetensors: weights must be finite, found nan in embedding"
    ):
        load_model(tmp_path)


def test_the_export_names_the_tokenizers_own_end_of_text(tmp_path: Path) -> None:
    tokenizer = json.dumps({"added_tokens": [{"id": 7, "content": "</s>"}, {"id": 8, "content": "<s>"}]})
    export_llama(tmp_path, stack(tied=True), 0, eos_id=7, tokenizer_json=tokenizer.encode())
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "</s>"
