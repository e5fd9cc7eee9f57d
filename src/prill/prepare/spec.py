"""What a user asks of preparation, and the measures and groupings it means, in the order of verdicts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from prill.features.repair import RepairOptions, require_ftfy
from prill.prepare.age import Age, AgeSpec
from prill.prepare.contamination.measure import Contamination
from prill.prepare.contamination.spec import ContaminationSpec
from prill.prepare.duplicates.exact import ExactDuplicates, ExactSpec
from prill.prepare.duplicates.lines import LineDuplicates, LineSpec
from prill.prepare.duplicates.near import NearDuplicates, NearSpec
from prill.prepare.duplicates.semantic import SemanticDuplicates, SemanticSpec
from prill.prepare.duplicates.substring import SubstringDuplicates, SubstringSpec
from prill.prepare.duplicates.url import UrlCopiesSpec, UrlDuplicates
from prill.prepare.html import Html, HtmlSpec
from prill.prepare.language import Language, LanguageSpec
from prill.prepare.lists import Lists, ListSpec, ListsSpec
from prill.prepare.machine_text.measure import MachineText, MachineTextSpec
from prill.prepare.measure import Grouping, Measure
from prill.prepare.pii import Pii, PiiSpec
from prill.prepare.refine.measure import Refine, RefineSpec
from prill.prepare.rewrite.job import RewriteJobSpec
from prill.prepare.rules.measure import Rules
from prill.prepare.rules.spec import RulesSpec
from prill.prepare.tokens import TokenCounts, TokensSpec
from prill.prepare.urls import Urls, UrlSpec

__all__ = ["PrepareSpec", "groupings", "measures"]


class PrepareSpec(BaseModel):
    """What is measured on every document, and what that means for it. A part that is null is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    html: HtmlSpec | None = Field(
        None, description="Extract the text of HTML documents first (extra `html`); null reads as it is."
    )
    repair: RepairOptions | None = Field(
        None, description="Repair the Unicode of the text first: normal form, controls, line ends, mojibake."
    )
    urls: UrlSpec | None = Field(None, description="URLs: normal form, domain, lists of unwanted ones.")
    language: LanguageSpec | None = Field(
        LanguageSpec(), description="Language and script of every document."
    )
    rules: RulesSpec | None = Field(RulesSpec(), description="Quality rules of the field, by preset.")
    age: AgeSpec | None = Field(AgeSpec(), description="The year of every document.")
    tokens: TokensSpec | None = Field(None, description="Exact token counts under a given tokenizer.")
    refine: RefineSpec | None = Field(
        None, description="Cleaning programs (ProX) that a model or a person wrote."
    )
    lists: tuple[ListSpec, ...] = Field(
        (), description="Lists of words, phrases or substrings, judged in this order."
    )
    pii: PiiSpec | None = Field(PiiSpec(), description="Personal data and secrets.")
    contamination: ContaminationSpec | None = Field(
        None, description="Benchmark items that must not be in the corpus."
    )
    machine_text: MachineTextSpec | None = Field(
        None, description="Probability that a model wrote the text (PAWN); needs a model and a classifier."
    )
    exact: ExactSpec | None = Field(ExactSpec(), description="Exact copies of documents.")
    same_url: UrlCopiesSpec | None = Field(None, description="Documents of one URL.")
    near: NearSpec | None = Field(NearSpec(), description="Near copies of documents.")
    lines: LineSpec | None = Field(None, description="Lines or paragraphs that many documents share.")
    substring: SubstringSpec | None = Field(
        None, description="Passages that stand elsewhere in the corpus byte for byte."
    )
    semantic: SemanticSpec | None = Field(None, description="Documents that say the same.")
    rewrite: RewriteJobSpec | None = Field(
        None, description="What is left, rewritten by a model that answers at an address."
    )
    memory: int = Field(
        1_000_000_000,
        ge=16_000_000,
        description="About how much memory the search for copies may hold, bytes.",
    )


def measures(spec: PrepareSpec, base: Path) -> list[Measure]:
    """Everything measured on single documents, in the order in which it judges.

    Raises:
        PrillError: a list, an index or a package that a part needs is missing or wrong.
    """
    found: list[Measure] = []
    if spec.repair is not None and spec.repair.mojibake:
        require_ftfy()
    if spec.html is not None:
        found.append(Html.of(spec.html))
    if spec.urls is not None:
        found.append(Urls.of(spec.urls, base))
    if spec.language is not None:
        found.append(Language.of(spec.language))
    if spec.rules is not None:
        found.append(Rules.of(spec.rules))
    if spec.age is not None:
        found.append(Age.of(spec.age))
    if spec.tokens is not None:
        found.append(TokenCounts.of(spec.tokens, base))
    if spec.refine is not None:
        found.append(Refine.of(spec.refine, base))
    if spec.lists:
        found.append(Lists.of(ListsSpec(lists=spec.lists), base))
    if spec.pii is not None:
        found.append(Pii.of(spec.pii))
    if spec.machine_text is not None:
        found.append(MachineText.of(spec.machine_text, base))
    if spec.contamination is not None:
        found.append(Contamination.of(spec.contamination, base))
    return found


def groupings(spec: PrepareSpec, base: Path) -> list[Grouping]:
    """Everything that compares documents, in the order in which it judges."""
    found: list[Grouping] = []
    if spec.exact is not None:
        found.append(ExactDuplicates.of(spec.exact, base))
    if spec.same_url is not None:
        found.append(UrlDuplicates.of(spec.same_url))
    if spec.near is not None:
        found.append(NearDuplicates.of(spec.near, base))
    if spec.lines is not None:
        found.append(LineDuplicates.of(spec.lines))
    if spec.substring is not None:
        found.append(SubstringDuplicates.of(spec.substring))
    if spec.semantic is not None:
        found.append(SemanticDuplicates.of(spec.semantic, base))
    return found
