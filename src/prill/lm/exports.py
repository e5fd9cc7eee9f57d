"""A model that training saved, as a folder that `transformers` opens."""

from __future__ import annotations

import shutil
from pathlib import Path

from prill.corpus.tokenizer import load_tokenizer
from prill.lm.bases.export import merge_adapters
from prill.lm.checkpoint import load_model
from prill.lm.hf import export_llama

__all__ = ["export_model"]


def export_model(source: Path, root: Path, *, tokenizer: Path, merges: bool = False) -> list[Path]:
    """Write the model in `source` to the folder of the same name in `root`, nested sizes under `sizes/`.

    Args:
        source: folder that a learner saved into.
        root: folder of all models.
        tokenizer: the tokenizer.json that goes beside it.
        merges: write adapters together with their base too, under `merged/`.
    Returns:
        The files.
    """
    folder = root / source.name
    if not (source / "model.json").is_file():
        shutil.copytree(source, folder, dirs_exist_ok=True)
        if merges and (folder / "adapter_config.json").is_file():
            merge_adapters(folder, folder / "merged")
        return sorted(path for path in folder.rglob("*") if path.is_file())
    model, _ = load_model(source)
    content = tokenizer.read_bytes()
    eos_id = load_tokenizer(content).eos_id
    files = export_llama(folder, model, 0, eos_id=eos_id, tokenizer_json=content)
    for size in sorted(source.glob("sizes/*")):
        files += export_model(size, folder / "sizes", tokenizer=tokenizer)
    return files
