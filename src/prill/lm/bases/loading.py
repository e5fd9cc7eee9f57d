"""From a folder to a `transformers` model that is whole, finite and keeps documents apart.

The library fills what a checkpoint lacks with random numbers and warns; here that is an error, as are
tensors it has no place for, other shapes, and weights that are not numbers. The model is then asked a few
tokens twice, packed and one document at a time through the library's own attention: whatever a class does
that packed rows cannot have shows in the answer, so any class may be tried.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from prill.errors import DataError, Problem, RecipeError, ResourceError
from prill.lm.bases.attention import ATTENTION, register
from prill.lm.bases.folder import CONFIG, read_json, tensor_sizes, weight_files
from prill.lm.tensorfile import require_finite

__all__ = ["body_of", "load_base", "quiet", "read_config"]

MOST_TOLD = 5


def read_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The library's configuration of a folder.

    Raises:
        DataError: absent, of a model the library does not know, or it asks to run code from the folder.
        ResourceError: transformers is not installed.
    """
    _require()
    written = read_json(folder / CONFIG)
    _refuse_code(folder, written, trust_remote_code=trust_remote_code)
    try:
        with quiet():
            return _library().AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _unreadable(folder / CONFIG, error) from error


def load_base(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """A causal language model in fp32 on the CPU, in evaluation mode (no dropout).

    Raises:
        DataError: as the module says; all tensors that are wrong are told.
        ResourceError: transformers is not installed.
    """
    config = read_config(folder, trust_remote_code=trust_remote_code)
    weight_files(folder)
    tensor_sizes(folder)  # finds a cut file in no time
    register()
    try:
        with quiet(), torch.random.fork_rng(devices=[]):  # what is missing would be drawn
            model, info = _library().AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation=ATTENTION,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise DataError(f"expected whole safetensors files, found {error}", where=str(folder)) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    _check_tensors(folder, info)
    _check_finite(folder, model)
    return model.eval()


def body_of(model: Any) -> Any:
    """The part of a model up to the last norm."""
    return getattr(model, model.base_model_prefix)


def set_attention(model: Any, name: str) -> None:
    """Let a model use another attention of the library's registry."""
    model.set_attn_implementation(name)


def check_frozen_names(names: list[str], patterns: tuple[str, ...]) -> None:
    """Every pattern must name something.

    Raises:
        RecipeError: one names nothing.
    """
    import fnmatch

    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise RecipeError(
                f"no parameter is called {pattern!r}",
                where="frozen",
                hint="for instance " + ", ".join(names[:3]),
            )


def _library() -> Any:
    """transformers, whose names are only known at run time."""
    return importlib.import_module("transformers")


def _require() -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ResourceError(
            "real base models need the package transformers, found none",
            where="this Python environment",
            hint="install it with: pip install 'prill[bases]'",
        )


def _refuse_code(folder: Path, written: dict[str, Any], *, trust_remote_code: bool) -> None:
    known = written.get("model_type") in _library().CONFIG_MAPPING
    if "auto_map" in written and not known and not trust_remote_code:
        raise DataError(
            f"the model {written.get('model_type')!r} brings code of its own, which is not run",
            where=str(folder),
            hint="read the code, then set `trust_remote_code: true`",
        )


def _check_tensors(folder: Path, info: dict[str, Any]) -> None:
    stored = tensor_sizes(folder)
    problems = [
        Problem(message=f"expected the tensor {name}, found none", where=str(folder))
        for name in sorted(info.get("missing_keys", ()))
    ]
    for name, found, expected in sorted(tuple(item) for item in info.get("mismatched_keys", ())):
        problems.append(
            Problem(
                message=f"expected {name} of shape {tuple(expected)}, found {tuple(found)}", where=str(folder)
            )
        )
    problems += [
        Problem(
            message=f"the model has no place for the tensor {name}",
            where=str(folder),
            hint="config.json is of another model than the weights",
        )
        for name in sorted(info.get("unexpected_keys", ()))
        if name in stored
    ]
    problems += [
        Problem(message=f"expected whole tensors, found {error}", where=str(folder))
        for error in info.get("error_msgs", ())
    ]
    if problems:
        more = len(problems) - MOST_TOLD
        rest = [Problem(message=f"and {more} more tensors", where=str(folder))] if more > 0 else []
        raise DataError.of([*problems[:MOST_TOLD], *rest])


def _check_finite(folder: Path, model: Any) -> None:
    for name, parameter in model.named_parameters():
        require_finite(name, parameter.detach(), folder)


def _unreadable(where: Path, error: Exception) -> DataError:
    said = " ".join(str(error).split())
    if ATTENTION in said:
        return DataError(
            "expected a class that takes its attention from the library's registry, found one that does not",
            where=str(where),
            hint="documents in one row would see each other: use another model class",
        )
    told = said if len(said) <= 300 else said[:299] + "…"
    return DataError(
        f"expected a causal language model that transformers can read, found: {told}", where=str(where)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and reports: what they say is told as an error or not at all."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
