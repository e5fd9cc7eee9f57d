"""To and from a `transformers` Llama folder, with equal logits.

The stack keeps linear weights as (d_in, d_out) and joins query, key, value and gate, up; the folder keeps
them apart as (d_out, d_in). Rotary pairs are (i, i + head_dim / 2) in both. Only safetensors are read, in one
file or in shards; nothing is unpickled and no remote code is run. What this model family cannot say
(grouped keys, biases, scaled rotary positions, other activations) is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prill.errors import DataError, Problem, RecipeError
from prill.lm.bases.folder import weight_files
from prill.lm.model import StackedLlama
from prill.lm.parameters import views
from prill.lm.shape import Shape
from prill.lm.tensorfile import read_tensors, require_finite, write_tensors
from prill.run.atomic import atomic_write

__all__ = ["export_llama", "import_llama"]

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
EOS_TEXT = "<|endoftext|>"


def export_llama(
    folder: Path, model: StackedLlama, k: int, *, eos_id: int = 0, tokenizer_json: bytes | None = None
) -> list[Path]:
    """Write model `k` of a stack for `AutoModelForCausalLM.from_pretrained`; returns the files.

    Args:
        folder: made if absent.
        model: a stack.
        k: which of its models.
        eos_id: end-of-text, which also opens every document.
        tokenizer_json: the content of a tokenizer.json, stored beside the model.
    Raises:
        ResourceError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"bos_token_id": eos_id, "eos_token_id": eos_id}
    texts = {
        "config.json": json.dumps(_config(model.shape) | ends, indent=2, sort_keys=True).encode(),
        "generation_config.json": json.dumps(ends | {"do_sample": True}, indent=2, sort_keys=True).encode(),
    }
    if tokenizer_json is not None:
        end = _end_text(tokenizer_json, eos_id)
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": end,
            "eos_token": end,
            "model_max_length": model.shape.seq_len,
        }
        texts["tokenizer.json"] = tokenizer_json
        texts["tokenizer_config.json"] = json.dumps(about, indent=2, sort_keys=True).encode()
    weights = folder / "model.safetensors"
    own = {name: view[k] for name, view in views(model.flat, model.shape).items()}
    write_tensors(weights, _split(own, model.shape), {"made_by": "prill"})
    for name, content in sorted(texts.items()):
        atomic_write(folder / name, content)
    return [weights, *(folder / name for name in sorted(texts))]


def import_llama(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> StackedLlama:
    """A stack of one model from a Llama folder.

    Raises:
        DataError: files are missing, pickled or damaged, or the configuration is not of this family; all
            problems of the configuration are told.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise DataError("expected config.json, found none", where=str(folder))
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"expected JSON, found {error}", where=str(config_file)) from error
    shape = _shape(config, config_file)
    tensors = _tensors(folder)
    flat = torch.empty(1, shape.n_total)
    for name, view in views(flat, shape).items():
        joined = _join(name, tensors, folder).float()
        require_finite(name, joined, folder)
        if joined.shape != view[0].shape:
            raise DataError(
                f"expected {name} of shape {tuple(view[0].shape)}, found {tuple(joined.shape)}",
                where=str(folder),
            )
        view[0].copy_(joined)
    return StackedLlama(shape, flat.to(device), dtype=dtype)


def _end_text(tokenizer_json: bytes, eos_id: int) -> str:
    """What the tokenizer calls its end-of-text token."""
    added = json.loads(tokenizer_json).get("added_tokens", [])
    return next((str(token["content"]) for token in added if token["id"] == eos_id), EOS_TEXT)


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "max_position_embeddings": shape.seq_len,
        "mlp_bias": False,
        "num_attention_heads": shape.n_heads,
        "num_hidden_layers": shape.n_layers,
        "num_key_value_heads": shape.n_heads,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "float32",
        "vocab_size": shape.vocab_size,
    }


def _shape(config: Mapping[str, Any], file: Path) -> Shape:
    """The shape that a configuration describes, or every reason why there is none."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    heads = config.get("num_attention_heads")
    expected = {
        "model_type": (config.get("model_type"), "llama"),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (config.get("attention_bias", False), False),
        "mlp_bias": (config.get("mlp_bias", False), False),
        "num_key_value_heads": (config.get("num_key_value_heads", heads), heads),
        "rope_type": (rope.get("rope_type", "default"), "default"),
    }
    problems = [
        Problem(message=f"`{name}` must be {wanted!r}, found {found!r}", where=str(file))
        for name, (found, wanted) in expected.items()
        if found != wanted
    ]
    if problems:
        raise DataError.of(problems)
    try:
        return Shape(
            vocab_size=int(config["vocab_size"]),
            d_model=int(config["hidden_size"]),
            n_layers=int(config["num_hidden_layers"]),
            n_heads=int(config["num_attention_heads"]),
            d_ff=int(config["intermediate_size"]),
            seq_len=int(config["max_position_embeddings"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        )
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        raise DataError(f"expected a Llama configuration, found {error}", where=str(file)) from error


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a folder, from one file or from its shards."""
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        tensors |= read_tensors(file, is_own=False)[0]
    return tensors


def _split(own: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
    """Our parameters of one model under the folder's names."""
    out = {EMBEDDING: own["embedding"], NORM: own["final_norm"]}
    if not shape.tied:
        out[HEAD] = own["head"]
    for i in range(shape.n_layers):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        for name, part in zip("qkv", own[f"{ours}.qkv"].chunk(3, dim=1), strict=True):
            out[f"{theirs}.self_attn.{name}_proj.weight"] = part.T
        gate, up = own[f"{ours}.gate_up"].chunk(2, dim=1)
        out[f"{theirs}.mlp.gate_proj.weight"], out[f"{theirs}.mlp.up_proj.weight"] = gate.T, up.T
        out[f"{theirs}.self_attn.o_proj.weight"] = own[f"{ours}.out"].T
        out[f"{theirs}.mlp.down_proj.weight"] = own[f"{ours}.down"].T
        out[f"{theirs}.input_layernorm.weight"] = own[f"{ours}.attention_norm"]
        out[f"{theirs}.post_attention_layernorm.weight"] = own[f"{ours}.ffn_norm"]
    return out


def _join(name: str, theirs: Mapping[str, torch.Tensor], folder: Path) -> torch.Tensor:
    """One of our parameters from the folder's tensors."""
    outer = {"embedding": EMBEDDING, "head": HEAD, "final_norm": NORM}
    if name in outer:
        return _take(theirs, outer[name], folder)
    _, number, kind = name.split(".")
    block = f"model.layers.{number}"
    parts = {
        "qkv": [f"{block}.self_attn.{p}_proj.weight" for p in "qkv"],
        "out": [f"{block}.self_attn.o_proj.weight"],
        "gate_up": [f"{block}.mlp.gate_proj.weight", f"{block}.mlp.up_proj.weight"],
        "down": [f"{block}.mlp.down_proj.weight"],
        "attention_norm": [f"{block}.input_layernorm.weight"],
        "ffn_norm": [f"{block}.post_attention_layernorm.weight"],
    }[kind]
    found = [_take(theirs, part, folder) for part in parts]
    return found[0] if found[0].dim() == 1 else torch.cat([part.T for part in found], dim=1)


def _take(tensors: Mapping[str, torch.Tensor], name: str, folder: Path) -> torch.Tensor:
    found = tensors.get(name)
    if found is None:
        raise DataError(f"expected the tensor {name}, found none", where=str(folder))
    return found
