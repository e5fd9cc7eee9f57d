"""What a recipe says of decontamination, and the presets of published rules.

A preset is a set of thresholds over the same hits; fields that a recipe gives beside it win.

Sources of the presets: Brown et al. 2020, arXiv:2005.14165, appendix C (gpt3); Chowdhery et al. 2022,
arXiv:2204.02311, section 8 (palm); Lambert et al. 2024, arXiv:2411.15124, section 3.2 (tulu3); the n-gram
decontamination of the datatrove package (datatrove).
Differs: all of them look at one document at a time. gpt3 merges touching cuts before it counts them, and
measures pieces in bytes. palm compares covered words, not n-grams, with 70 %. tulu3 uses our words instead
of spaCy's. datatrove uses our words and hashes. Items shorter than a preset's n-gram count as one n-gram
under palm and tulu3, and never match under gpt3 and datatrove.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prill.prepare.contamination.items import PassageRule

__all__ = ["PRESETS", "Action", "ContaminationSpec", "ContaminationTask", "Measured", "Preset"]

Action: TypeAlias = Literal["drop", "cut", "tag"]
Measured: TypeAlias = Literal["coverage", "exact", "exact_prompt", "longest", "longest_answer"]
Preset: TypeAlias = Literal["prill", "gpt3", "palm", "tulu3", "datatrove"]

PRESETS: dict[str, dict[str, Any]] = {
    "prill": {},
    "gpt3": {
        "by": "longest",
        "at_least": 13.0,
        "passages": "same",
        "action": "cut",
        "margin": 200,
        "min_piece": 200,
        "max_cuts": 10,
    },
    "palm": {"by": "exact", "n": 8, "at_least": 0.7, "short": 0.7, "passages": "same"},
    "tulu3": {"by": "exact_prompt", "n": 8, "at_least": 0.5, "short": 0.5, "passages": "same"},
    "datatrove": {"by": "longest_answer", "at_least": 12.0, "passages": "same"},
}
"""The fields that each preset sets."""

FEWEST_WORDS = {"longest": 12, "longest_answer": 12}
"""Runs shorter than this are not among the stored hits."""


class ContaminationTask(BaseModel):
    """The items of one task, or of several that name their task themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: tuple[str, ...] = Field(min_length=1, description="JSONL files of items, or globs of such files.")
    name: str | None = Field(
        None, description="Name of the task; when not given, the items' own `task`, else the file's name."
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="Our field (id, passage, prompt, target, context, choices, answer_index, question, "
        "answer) to the name it has in the files.",
    )
    passage: PassageRule = Field(
        "auto",
        description="Which part of a prompt is a quoted passage, which documents may hold by right: "
        "before_last_line, whole_prompt (the answer is the next word), none, or auto, told by the form.",
    )


def _or_a_path(schema: dict[str, Any]) -> None:
    """A task may also be written as a path alone."""
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


class ContaminationSpec(BaseModel):
    """Which benchmark items to look for, when a document counts as holding one, and what happens then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: tuple[ContaminationTask, ...] = Field(
        min_length=1,
        description="Benchmarks to keep out; a path alone stands for {paths: [it]}.",
        json_schema_extra=_or_a_path,
    )
    preset: Preset = Field(
        "prill", description="Published rule whose thresholds are taken where this recipe gives none."
    )
    by: Measured = Field(
        "coverage",
        description="What is compared: coverage (share of an item's question and answer, small changes "
        "allowed), exact (share inside shared n-grams), exact_prompt (the same of passage and question), "
        "longest (longest run of equal words), longest_answer (longest run that touches the answer).",
    )
    n: int = Field(8, ge=8, le=64, description="Words of the n-grams of `exact` and `exact_prompt`.")
    at_least: float = Field(
        0.5,
        ge=0.3,
        description="Smallest share for items of `long_words` or more, above 0.3; words when `by` is a run, "
        "12 or more.",
    )
    short: float = Field(
        0.85, ge=0.3, le=1.0, description="Smallest share for shorter items, which chance covers more easily."
    )
    long_words: int = Field(
        20, ge=1, description="Words of question and answer from which `at_least` decides instead of `short`."
    )
    min_words: int = Field(
        5, ge=4, description="Words of question and answer below which an item is never acted upon."
    )
    part_words: int = Field(
        13,
        ge=8,
        description="Words from which a question, or an answer, counts alone when covered to `short`.",
    )
    passages: Literal["tag", "same"] = Field(
        "tag",
        description="A document that holds only an item's passage: tag, no action; same, as the whole item.",
    )
    ignore: tuple[str, ...] = Field((), description="Items, as task/id, that are never acted upon.")
    action: Action = Field(
        "drop", description="drop the document, cut the item out of it, or only tag it in the columns."
    )
    margin: int = Field(0, ge=0, le=100_000, description="Characters cut on either side of an item.")
    min_piece: int = Field(0, ge=0, description="Bytes below which a piece left between cuts is cut too.")
    max_cuts: int | None = Field(
        None, ge=1, description="Cuts above which the document is dropped; none: never."
    )

    @field_validator("tasks", mode="before")
    @classmethod
    def _a_path_is_a_task(cls, value: object) -> object:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list | tuple):
            return given
        return [{"paths": [task]} if isinstance(task, str) else task for task in given]

    @model_validator(mode="after")
    def _thresholds_fit_what_is_compared(self) -> ContaminationSpec:
        by, at_least = self.chosen("by"), self.chosen("at_least")
        fewest = FEWEST_WORDS.get(by)
        if fewest is not None and at_least < fewest:
            raise ValueError(
                f"at_least counts words when by is {by}: {fewest} or more expected, found {at_least:g}"
            )
        if fewest is None and at_least > 1:
            raise ValueError(f"at_least is a share when by is {by}: at most 1 expected, found {at_least:g}")
        return self

    def chosen(self, field: str) -> Any:
        """The value of a field: given here, else the preset's, else the default."""
        given = field in self.model_fields_set
        return getattr(self, field) if given else PRESETS[self.preset].get(field, getattr(self, field))
