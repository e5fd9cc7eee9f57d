"""Running out of memory: one error that says what would fit, and does fit."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from prill.errors import ResourceError  # noqa: E402
from prill.lm.memory import advice, fitting_rows, memory_errors  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.shape import Shape  # noqa: E402

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=1, n_heads=2, d_ff=24, seq_len=16)

# the limit is set when everything is imported, so that only the step can meet it
OUT_OF_MEMORY = textwrap.dedent(
    """
    import re, resource, sys
    import numpy as np, psutil, torch
    from prill.errors import ResourceError
    from prill.lm.data import Rows, positions_of
    from prill.lm.memory import memory_errors
    from prill.lm.model import StackedLlama
    from prill.lm.shape import Shape

    torch.set_num_threads(1)
    shape = Shape(vocab_size=64, d_model=128, n_layers=4, n_heads=2, d_ff=256, seq_len=256)
    model = StackedLlama.init(shape, [0])

    def step(n_rows):
        ids = np.ones((1, n_rows, 256), np.int64)
        segments = np.zeros_like(ids)
        rows = Rows(inputs=ids, targets=ids, positions=positions_of(segments), segments=segments)
        with memory_errors(model, n_rows=n_rows, row_tokens=256):
            model.losses_and_gradient(model.pack(rows))

    step(1)
    taken = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (taken + (700 << 20), -1))
    try:
        step(4096)
    except ResourceError as error:
        print(error)
        fits = int(re.search(r"hint: (\\d+) rows?", str(error)).group(1))
    step(fits)
    print("fits", fits)
    """
)


def test_the_size_that_is_said_to_fit_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "training: memory must hold a step of 1 models x 4096 rows x 256 tokens" in done.stdout
    assert int(done.stdout.split("fits ")[-1]) >= 8


def test_other_errors_pass_through() -> None:
    model = StackedLlama.init(SHAPE, [0])
    with pytest.raises(RuntimeError, match="shape mismatch"), memory_errors(model, n_rows=1, row_tokens=16):
        raise RuntimeError("shape mismatch")


def test_memory_that_runs_out_on_a_device_is_told_too() -> None:
    model = StackedLlama.init(SHAPE, [0, 1, 2, 3])
    with pytest.raises(ResourceError) as caught, memory_errors(model, n_rows=2, row_tokens=16, where="arm"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert "arm: memory must hold a step of 4 models x 2 rows x 16 tokens" in str(caught.value)


def test_the_advice_goes_from_rows_to_models_to_the_shape() -> None:
    def needs(n_models: int, n_rows: int) -> int:
        return n_models * (100 + 10 * n_rows)

    # 0.9 x 500 holds 4 x (100 + 1 x 10), not 4 x (100 + 2 x 10)
    assert advice(needs, 500, n_models=4, n_rows=8) == "1 row a step would fit"
    # not even 4 x 110; 0.9 x 400 holds 2 x 180, not 3 x 180
    assert advice(needs, 400, n_models=4, n_rows=8) == "stacks of 2 models would fit"
    assert advice(needs, 100, n_models=1, n_rows=8).startswith("not even one row fits")


@given(
    fixed=st.integers(0, 10**9),
    row=st.integers(1, 10**8),
    n_rows=st.integers(1, 200),
    free=st.integers(0, 10**10),
)
def test_what_fits_is_smaller_than_what_failed_and_within_what_is_free(
    fixed: int, row: int, n_rows: int, free: int
) -> None:
    found = fitting_rows(lambda k, b: k * (fixed + b * row), free, n_models=1, n_rows=n_rows)
    assert 0 <= found < n_rows
    assert found == 0 or fixed + found * row <= free
