"""Small random `transformers` folders, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from prill.corpus.tokenizer import train_bpe
from prill.lm.data import Rows, positions_of

VOCAB = 97
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GROUPED = {"num_key_value_heads": 2}
WINDOW = {"sliding_window": 6, "query_pre_attn_scalar": 8, "head_dim": 8}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "llama-tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "qwen2": (
        "Qwen2Config",
        GROUPED | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", GROUPED | {"head_dim": 8}),
    "gemma": ("GemmaConfig", GROUPED | {"head_dim": 8}),
    "gemma2": ("Gemma2Config", GROUPED | WINDOW | {"final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3TextConfig", GROUPED | WINDOW),
    "gpt-neox": ("GPTNeoXConfig", {}),
    "olmo": ("OlmoConfig", GROUPED),
    "olmo2": ("Olmo2Config", GROUPED),
    "mistral": ("MistralConfig", GROUPED | {"sliding_window": 6}),
    "gpt2": ("GPT2Config", {}),
    "granite": ("GraniteConfig", GROUPED | {"logits_scaling": 4.0}),
}


def make_base(folder: Path, kind: str = "llama", *, noise: float = 0.2, **changes: Any) -> Path:
    """A folder with a model of this kind, far from its initialisation, so that nothing is close to 0."""
    import transformers

    name, own = CONFIGS[kind]
    config = getattr(transformers, name)(**(SHAPE | own | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += noise * torch.randn_like(parameter)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path, *, vocab_size: int = 300) -> bytes:
    """A byte-level tokenizer beside a model; returns its tokenizer.json."""
    content = train_bpe(["a few words of text to learn from, and some more words"] * 3, vocab_size)
    (folder / "tokenizer.json").write_bytes(content)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return content


def divided_rows(lengths: list[list[int]], *, seed: int = 0) -> Rows:
    """Rows of one model, (1, B, T), whose documents have these lengths."""
    rng = np.random.default_rng(seed)
    numbers = np.cumsum([0] + [len(row) for row in lengths])
    segments = np.stack(
        [np.repeat(np.arange(len(row)) + first, row) for row, first in zip(lengths, numbers, strict=False)]
    )[None]
    shape = segments.shape
    return Rows(
        inputs=rng.integers(1, VOCAB, size=shape),
        targets=rng.integers(1, VOCAB, size=shape),
        positions=positions_of(segments),
        segments=segments,
    )
