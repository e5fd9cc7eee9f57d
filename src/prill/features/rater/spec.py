"""What a recipe says of a rater: rules, an endpoint, a local model, or a file of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from prill.errors import DataError, RecipeError
from prill.features.asking.endpoint import EndpointSpec
from prill.run.fingerprint import file_digest, fingerprint

__all__ = [
    "AnyRater",
    "EndpointRaterSpec",
    "LabelsSpec",
    "ModelRaterSpec",
    "RaterSpec",
    "RulesSpec",
    "digest_of",
    "must_have",
]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def called(self) -> str:
        """For people: who rates."""
        raise AssertionError

    @property
    def decides(self) -> dict[str, Any]:
        """The settings that decide the ratings."""
        return self.model_dump(mode="json")

    @property
    def is_costly(self) -> bool:
        """Whether the pool should not be rated document by document without a budget."""
        return False


class RulesSpec(_Spec):
    """Grades from counts of words and lines: a stand-in that needs no model, not a published annotator."""

    kind: Literal["rules"] = "rules"

    @property
    def called(self) -> str:
        return "rules (a stand-in, not the published annotator)"


class EndpointRaterSpec(_Spec):
    """A model that answers at an OpenAI-compatible address."""

    kind: Literal["endpoint"] = "endpoint"
    endpoint: EndpointSpec = Field(
        description="Where it answers: base_url, model, key_variable, timeout_s, max_retries. "
        "Set `max_answer_tokens` near 64 for a rubric of numbers, near 256 for one with reasons."
    )
    max_requests: int | None = Field(
        None, ge=1, description="Most requests of one step; a rating that needs more stops. Null: no limit."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Most tokens of one step, both ways; null: no limit."
    )
    n_parallel: int = Field(4, ge=1, le=256, description="Requests at a time.")

    @property
    def called(self) -> str:
        return f"{self.endpoint.model} at {self.endpoint.base_url}"

    @property
    def decides(self) -> dict[str, Any]:
        """Model, address and how it is asked; not the key, patience, or what may be spent."""
        asked = self.endpoint.model_dump(mode="json", exclude={"key_variable", "timeout_s", "max_retries"})
        return {"kind": self.kind, "endpoint": asked}

    @property
    def is_costly(self) -> bool:
        return True


class ModelRaterSpec(_Spec):
    """A causal language model in a local folder: of `transformers`, or a checkpoint of Prill."""

    kind: Literal["model"] = "model"
    folder: str = Field(
        min_length=1, description="With config.json or model.json, safetensors, tokenizer.json."
    )
    answer: Literal["generate", "likelihood"] = Field(
        "generate",
        description="generate: the answer is written greedily and read; likelihood: each place of the answer "
        "is filled with the likeliest of its options, and the grade is the expectation over the digits' "
        "probabilities (our extension: finer than whole numbers, and never unreadable).",
    )
    max_answer_tokens: int = Field(29, ge=1, le=1_024, description="Longest generated answer.")
    template: Literal["plain", "chat"] = Field(
        "plain",
        description="plain: instructions, message, `Answer:`; chat: the folder's chat template.",
    )

    @property
    def called(self) -> str:
        return f"the model {Path(self.folder).name}, by {'likelihood' if self.is_expected else 'its answer'}"

    @property
    def is_expected(self) -> bool:
        """Whether grades are expectations."""
        return self.answer == "likelihood"

    @property
    def decides(self) -> dict[str, Any]:
        """All but where the folder lies: its content is hashed."""
        return self.model_dump(mode="json", exclude={"folder"})


class LabelsSpec(_Spec):
    """Documents that were rated before: a JSON line each, `text` and a number for every scale."""

    kind: Literal["labels"] = "labels"
    path: str = Field(min_length=1, description="The file; relative to the recipe.")
    label_field: str | None = Field(None, description="Field with the letter of the label, if there is one.")

    @property
    def called(self) -> str:
        return f"the labels of {Path(self.path).name}"

    @property
    def decides(self) -> dict[str, Any]:
        """All but where the file lies."""
        return self.model_dump(mode="json", exclude={"path"})


AnyRater: TypeAlias = RulesSpec | EndpointRaterSpec | ModelRaterSpec | LabelsSpec
RaterSpec: TypeAlias = Annotated[AnyRater, Field(discriminator="kind")]


def must_have(spec: AnyRater | None, method: str) -> AnyRater:
    """The rater.

    Raises:
        RecipeError: there is none; says how to give one.
    """
    if spec is None:
        raise RecipeError(
            f"expected a rater for {method}, found null",
            where="rater",
            hint="give `rater: {kind: endpoint, endpoint: {base_url: ..., model: ..., key_variable: ...}}`, "
            "`rater: {kind: model, folder: ...}`, `rater: {kind: labels, path: ...}`, or "
            "`rater: {kind: rules}`, a stand-in without a model",
        )
    return spec


def digest_of(spec: AnyRater, base: Path) -> str:
    """Hash of what the rater reads from disk; "" where that is nothing.

    Raises:
        DataError: a folder or file is not there, or is no model.
        ResourceError: the packages of a `transformers` model are missing.
    """
    if isinstance(spec, ModelRaterSpec):
        from prill.lm.scoring.models import open_model

        folder = base / spec.folder
        opened = open_model(folder)
        chat = folder / "chat_template.jinja"
        if spec.template == "chat" and not chat.is_file():
            raise DataError("expected chat_template.jinja, found none", where=str(folder))
        return fingerprint([opened.record, file_digest(chat) if spec.template == "chat" else ""])
    if isinstance(spec, LabelsSpec):
        path = base / spec.path
        if not path.is_file():
            raise DataError("expected a file with rated documents, found none", where=str(path))
        return file_digest(path)
    return ""
