"""Programs written by a refiner: asked for once, joined over chunks, left out when the budget ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prill.features.asking.answers import Answers, Budget
from prill.features.asking.asker import Asker
from prill.features.asking.endpoint import Answer, EndpointSpec
from prill.prepare.refine.programs import Written, read_programs
from prill.prepare.refine.writing import ProgramWriter, write_programs

SPEC = EndpointSpec(base_url="http://localhost/v1", model="refiner", max_answer_tokens=10)


@dataclass
class Refiner:
    """Drops documents that say so, and removes the first line of each chunk."""

    spec: EndpointSpec = SPEC
    asked: list[str] = field(default_factory=list)

    def ask(self, system: str, user: str) -> Answer:
        self.asked.append(user)
        text = "keep_doc()"
        if user.startswith("[doc]"):
            line = int(user[6:9])
            text = f"remove_lines(line_start={line}, line_end={line})"
        elif "spam" in user:
            text = "drop_doc()"
        return Answer(text=text, tokens_in=5, tokens_out=5, is_whole=True)


def lengths(lines: Sequence[str]) -> list[int]:
    return [len(line) for line in lines]


def writer(folder: Path, refiner: Any, budget: Budget) -> ProgramWriter:
    ask = Asker(endpoint=refiner, answers=Answers(folder / "answers.jsonl"), budget=budget)
    return ProgramWriter(document=ask, chunk=ask, count=lengths, chunk_tokens=14)


def test_programs_are_joined_kept_and_resumed(tmp_path: Path) -> None:
    texts, hashes = ["aa\nbb\ncc", "spam", "dd"], [f"{k:032x}" for k in range(3)]
    refiner, path = Refiner(), tmp_path / "programs.jsonl"
    assert write_programs(path, texts, hashes, writer(tmp_path, refiner, Budget(max_requests=4))) == 1
    found = read_programs(path)
    program = "remove_lines(line_start=0, line_end=0)\nremove_lines(line_start=2, line_end=2)"
    assert found[f"hash:{hashes[0]}"] == Written(document="keep_doc()", chunk=program)
    assert found[f"hash:{hashes[1]}"] == Written(document="drop_doc()", chunk=None)
    assert len(refiner.asked) == 4
    again = tmp_path / "again.jsonl"
    assert write_programs(again, texts, hashes, writer(tmp_path, refiner, Budget(max_requests=2))) == 0
    assert len(refiner.asked) == 6
    assert read_programs(again)[f"hash:{hashes[2]}"].chunk == "remove_lines(line_start=0, line_end=0)"
