"""Bases that are damaged, dangerous or do not fit: one clear error each, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from base_models import make_base, make_tokenizer  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from prill.errors import DataError  # noqa: E402
from prill.lm.bases.attention import ATTENTION, register  # noqa: E402
from prill.lm.bases.base import TransformersBase  # noqa: E402
from prill.lm.bases.folder import base_tokenizer, check_same_tokenizer, weight_files  # noqa: E402
from prill.lm.bases.logits import HeadRule  # noqa: E402
from prill.lm.bases.probe import check_packing  # noqa: E402
from prill.lm.bases.stored import load_scorer, open_base  # noqa: E402
from prill.lm.hf import import_llama  # noqa: E402

CPU = torch.device("cpu")


def load(folder: Path) -> Any:
    return TransformersBase(folder=folder).learner([0], n_extra=0, dtype=torch.float32, device=CPU)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: t.pop(Q), rf"expected the tensor {Q}, found none"),
        (lambda t: t.update({Q: torch.zeros(3, 3)}), rf"expected {Q} of shape \(32, 32\), found \(3, 3\)"),
        (
            lambda t: t.update({Q: torch.full((32, 32), torch.nan)}),
            rf"weights must be finite, found nan in {Q}",
        ),
        (lambda t: t.update({"value.head": torch.zeros(3)}), "no place for the tensor value.head"),
    ],
)
def test_wrong_weights_are_named(tmp_path: Path, edit: Any, said: str) -> None:
    change(make_base(tmp_path), edit)
    with pytest.raises(DataError, match=said) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_all_wrong_tensors_are_told_up_to_a_few(tmp_path: Path) -> None:
    change(make_base(tmp_path), lambda t: [t.pop(name) for name in sorted(t)[:9]])
    with pytest.raises(DataError, match="and 4 more tensors") as caught:
        load(tmp_path)
    assert len(caught.value.problems) == 6


def test_a_cut_file_is_found(tmp_path: Path) -> None:
    file = make_base(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"model\.safetensors: expected a whole safetensors file"):
        load(tmp_path)


def test_pickles_are_refused_without_being_opened(tmp_path: Path) -> None:
    make_base(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(
        DataError, match=r"only pickled weights \(pytorch_model\.bin\), which can run code"
    ) as caught:
        load(tmp_path)
    assert "convert it to safetensors" in str(caught.value)


def test_code_in_the_folder_is_not_run(tmp_path: Path) -> None:
    make_base(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="'mine' brings code of its own, which is not run"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_documents_that_see_each_other_are_noticed(tmp_path: Path) -> None:
    """A class with positions of its own, or another head than we know: the packed losses say so."""
    model = transformers.AutoModelForCausalLM.from_pretrained(make_base(tmp_path, "gpt2"))
    places = model.transformer.wpe
    places.register_forward_pre_hook(lambda module, ids: (torch.arange(ids[0].shape[-1])[None],))
    register()
    model.set_attn_implementation(ATTENTION)
    with pytest.raises(DataError, match="expected a document to have one loss, alone or in a row"):
        check_packing(model.eval(), HeadRule(), tmp_path)
    with pytest.raises(DataError, match="expected a document to have one loss, alone or in a row"):
        check_packing(load(tmp_path).skeleton.model, HeadRule(scale=2.0), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"config\.json: expected JSON"),
        ("[]", r"config\.json: expected a JSON object, found list"),
        ('{"model_type": "no-such-model"}', "expected a causal language model that transformers can read"),
        ('{"model_type": "t5"}', "expected a causal language model that transformers can read"),
    ],
)
def test_a_configuration_that_is_none_is_told(tmp_path: Path, content: str, said: str) -> None:
    make_base(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_folders_without_a_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder"):
        open_base(tmp_path / "none")
    with pytest.raises(DataError, match="found neither"):
        load_scorer(tmp_path, dtype=torch.float32, device=CPU)


def test_missing_shards_and_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected 2 shards, 1 are missing: model-2\.safetensors"):
        weight_files(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(DataError, match=r"found '\.\./other\.safetensors'"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("MambaConfig", {}, "0 of its 1 layers asked"),
        ("BloomConfig", {"n_layer": 1, "n_head": 2}, "0 of its 1 layers asked"),
        ("FalconConfig", {"num_attention_heads": 2}, "does not"),
        ("PhiConfig", {"num_attention_heads": 2, "intermediate_size": 48}, "a head without a bias"),
        ("GptOssConfig", {"num_attention_heads": 2, "num_key_value_heads": 2}, "one with `s_aux`"),
    ],
)
def test_classes_that_mix_documents_are_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], said: str
) -> None:
    config = getattr(transformers, kind)(
        vocab_size=97,
        hidden_size=16,
        num_hidden_layers=1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **changes,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_a_tokenizer_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    make_base(tmp_path)  # 97 embeddings
    with pytest.raises(DataError, match=r"expected tokenizer\.json, found none"):
        base_tokenizer(tmp_path, vocab_size=97)
    make_tokenizer(tmp_path, vocab_size=300)
    with pytest.raises(DataError, match="must be below the model's 97 embeddings, found 2"):
        base_tokenizer(tmp_path, vocab_size=97)
    tokenizer = base_tokenizer(tmp_path, vocab_size=300)
    assert tokenizer.eos_id == 0
    config = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": [7, 9]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    with pytest.raises(DataError, match="ends a text with token 0, the model with 7 or 9"):
        base_tokenizer(tmp_path, vocab_size=300)
    assert base_tokenizer(tmp_path, vocab_size=300, eos="<|endoftext|>").eos_id == 0
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|im_end|>"}}')
    with pytest.raises(DataError, match=r"a token that ends a document \(<\|im_end\|>\), found none"):
        base_tokenizer(tmp_path, vocab_size=300)


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    make_base(tmp_path, vocab_size=300)
    make_tokenizer(tmp_path)
    own = base_tokenizer(tmp_path, vocab_size=300).sha256
    check_same_tokenizer(tmp_path, sha256=own, where="train.bin")
    with pytest.raises(DataError, match=r"train\.bin: expected tokens of the model's own tokenizer"):
        check_same_tokenizer(tmp_path, sha256="0" * 64, where="train.bin")


def test_a_llama_folder_with_weights_that_are_not_numbers_is_no_stack(tmp_path: Path) -> None:
    make_base(tmp_path, "llama-tied", num_key_value_heads=4)
    change(tmp_path, lambda t: t.update({"model.norm.weight": torch.full((32,), np.inf)}))
    with pytest.raises(DataError, match="weights must be finite, found inf in final_norm"):
        import_llama(tmp_path)
