"""Bases in the training loop: branches, checkpoints and scoring, as for proxies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from base_models import make_base  # noqa: E402

from prill.lm.bases.adapters import Lora  # noqa: E402
from prill.lm.bases.base import TransformersBase  # noqa: E402
from prill.lm.bases.stored import load_scorer  # noqa: E402
from prill.lm.batches import BatchTable  # noqa: E402
from prill.lm.data import TokenStream  # noqa: E402
from prill.lm.feed.stream import StreamFeed  # noqa: E402
from prill.lm.plan import StepInfo, TrainSettings  # noqa: E402
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec  # noqa: E402
from prill.lm.score import EvalSet, score_documents  # noqa: E402
from prill.lm.train import Run, RunResult, train  # noqa: E402

EVALS = {"rest": EvalSet(docs=[np.arange(1, 60), np.array([5])], n_bytes=np.array([40, 2]), eos=0)}


def runs() -> list[Run]:
    rng = np.random.default_rng(0)
    words = [np.arange(first, first + 9) for first in range(1, 80, 9)]  # a language of nine words
    documents = [
        np.concatenate([words[i] for i in rng.integers(0, 9, size=int(rng.integers(1, 6)))])
        for _ in range(50)
    ]
    stream = TokenStream.from_documents(documents, eos=0, name="words")
    return [Run(label="arm", seed=3, feed=StreamFeed(stream=stream, row_tokens=32, seed=3), peak_rate=1e-2)]


def settings(start: TransformersBase, **changes: Any) -> TrainSettings:
    given: dict[str, Any] = {
        "start": start,
        "branch_tokens": (1024, 2048),
        "batches": BatchTable.constant(n_rows=2, row_tokens=32),
        "schedule": ScheduleSpec(wsd=WsdSpec(warmup="3 steps")),
        "precision": "fp32",
        "device": "cpu",
    }
    return TrainSettings(**(given | changes))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("lora", [None, Lora(rank=4)], ids=["whole", "lora"])
def test_a_base_trains_branches_stops_and_goes_on_to_the_same_losses(
    tmp_path: Path, lora: Lora | None
) -> None:
    start = TransformersBase(folder=make_base(tmp_path / "base", noise=0.0), lora=lora)

    def trained(folder: Path, *, dies_at: int | None = None) -> RunResult:
        def told(info: StepInfo) -> None:
            if info.done == dies_at:
                raise KilledError

        found = train(
            runs(),
            settings(start, checkpoint_s=0.0),
            eval_sets=EVALS,
            checkpoint_dir=folder,
            models_dir=folder / "models",
            on_step=told,
        )
        return found[0]

    whole = trained(tmp_path / "a")
    with pytest.raises(KilledError):
        trained(tmp_path / "b", dies_at=20)
    again = trained(tmp_path / "b")
    assert again.curve == whole.curve
    for one, other in zip(whole.branches, again.branches, strict=True):
        assert np.array_equal(one.losses["rest"], other.losses["rest"])
    learned = whole.curve[0].loss_nats - whole.curve[-1].loss_nats
    assert learned > (1.0 if lora is None else 0.2)  # what a random base knows, adapters cannot add much to
    (folder,) = (tmp_path / "a" / "models").glob("*-2048")
    scorer = load_scorer(folder, dtype=torch.float32, device=torch.device("cpu"))
    scores = score_documents(scorer, EVALS["rest"])[0]
    np.testing.assert_allclose(scores, whole.branches[-1].losses["rest"], rtol=1e-4)
