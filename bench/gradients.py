"""Influence of documents on targets: ghost products against gradients that are formed.

    python bench/gradients.py --size pico --documents 64 --tokens 256 --targets 4 --rounds 5

Prints, for one thread, processor time of both ways over the same documents, medians over rounds in turn,
their ratio, and the largest relative difference of the products.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from prill.lm.data import Rows, positions_of
from prill.lm.gradients.chunks import Chunking
from prill.lm.gradients.influence import influences
from prill.lm.gradients.trace import layer_names, layer_sizes
from prill.lm.model import StackedLlama
from prill.lm.parameters import views
from prill.lm.shape import ladder_shape

Gradients = dict[str, torch.Tensor]


def formed(model: StackedLlama, docs: list[np.ndarray], wanted: Gradients) -> np.ndarray:
    """Products and norms by a training pass and a whole gradient for each document."""
    found = []
    for doc in docs:
        targets = doc[None, None].astype(np.int64)
        inputs = np.concatenate([[0], doc[:-1]])[None, None].astype(np.int64)
        segments = np.zeros(targets.shape, np.int64)
        rows = Rows(inputs=inputs, targets=targets, positions=positions_of(segments), segments=segments)
        gradient = views(model.losses_and_gradient(model.pack(rows))[1], model.shape)
        own = {name: gradient[name][0] for name in layer_names(model)}
        norm = sum(float(g.square().sum()) for g in own.values()) ** 0.5
        products = [
            sum(float((own[n] * wanted[n][r]).sum()) for n in own)
            for r in range(len(wanted[next(iter(own))]))
        ]
        found.append(np.array(products) / norm)
    return np.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="pico")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = StackedLlama.init(ladder_shape(given.size, vocab_size=given.vocabulary), [0])
    rng = np.random.default_rng(0)
    docs = [rng.integers(1, given.vocabulary, size=given.tokens) for _ in range(given.documents)]
    wanted = {name: torch.randn(given.targets, *size) for name, size in layer_sizes(model).items()}
    chunking = Chunking(length=model.shape.seq_len)
    spent: dict[str, list[float]] = {"ghost": [], "formed": []}
    worst = 0.0
    for _ in range(given.rounds + 1):
        start = time.process_time()
        ghost = influences(model, docs, wanted, chunking, prefix=0).values
        middle = time.process_time()
        whole = formed(model, docs, wanted)
        spent["ghost"].append(middle - start)
        spent["formed"].append(time.process_time() - middle)
        worst = max(worst, float(np.abs(ghost - whole).max() / np.abs(whole).max()))
    seconds = {name: statistics.median(times[1:]) for name, times in spent.items()}
    n_tokens = given.documents * given.tokens
    print("| way | tokens a second | gradient values held |")
    print("|---|---:|---:|")
    n_values = sum(i * o for i, o in layer_sizes(model).values())
    print(f"| ghost products and norms | {n_tokens / seconds['ghost']:,.0f} | 0 |")
    print(f"| formed, one a document | {n_tokens / seconds['formed']:,.0f} | {n_values:,} |")
    print(f"\nratio {seconds['formed'] / seconds['ghost']:.2f}, largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
