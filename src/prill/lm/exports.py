"""A model that training saved, as a folder that `transformers` opens."""

from __future__ import annotations

import shutil
from pathlib import Path

from prill.corpus.tokenizer import load_tokenizer
from prill.lm.checkpoint import load_model
from prill.lm.hf import export_llama

__all__ = ["export_model"]


def export_model(source: Path, root: Path, *, tokenizer: Path) -> list[Path]:
    """Write the model in `source` to a folder of `root` that is named after its run and tokens.

    Args:
        source: folder that a learner saved into.
        root: folder of all models.
        tokenizer: the tokenizer.json that goes beside it.
    Returns:
        The files.
    """
    if not (source / "model.json").is_file():
        folder = root / source.name
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return sorted(path for path in folder.rglob("*") if path.is_file())
    model, meta = load_model(source)
    content = tokenizer.read_bytes()
    folder = root / f"{meta['label']}-{meta['n_tokens']}"
    return export_llama(folder, model, 0, eos_id=load_tokenizer(content).eos_id, tokenizer_json=content)
