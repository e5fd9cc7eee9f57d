"""The verdict of a training report in words: what was trained, what it reached, what to know first.

Every number is of the model; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Sequence

from prill.report import numbers
from prill.report.corpus_words import listed, plural
from prill.report.overview import Headline
from prill.report.training_model import IncidentNote, Reached, SourceRead, TrainingReport

__all__ = ["final", "incident_sentence", "training_headline", "training_notes"]

_SETS_IN_WORDS = 2  # more held-out sets than this are given as a range
_FEW_DOCUMENTS = 10
_MANY_PASSES = 4.0
_MISSED_SHARE = 0.01
_NOTES_A_KIND = 6
_COOLDOWN = ", cooldown"  # follows the name of a source whose fresh documents are counted apart


def final(data: TrainingReport) -> list[Reached]:
    """The last checkpoint of every held-out set as it is, without prefixes, in order of the sets."""
    last: dict[str, Reached] = {}
    for row in data.reached:
        if row.is_aside:
            continue
        if row.eval_set not in last or row.n_tokens >= last[row.eval_set].n_tokens:
            last[row.eval_set] = row
    return list(last.values())


def training_headline(data: TrainingReport) -> Headline:
    """What came out, and how sure it is."""
    rows = final(data)
    after = f"after {numbers.compact(data.n_tokens)} tokens"
    what = f"{plural(data.n_models, 'model')} of {numbers.compact(data.n_params)} parameters"
    told = [row for row in rows if row.bpb is not None]
    if rows and not told:
        return Headline(title=f"{what}: every one broke", lede=("No loss was reached.",))
    if not told:
        return Headline(title=f"{what}, {after.removeprefix('after ')} each", lede=_opening(data))
    verb = "reaches" if data.n_models == 1 else "reach"
    title = f"{what} {verb} {_losses(told)} {after}"
    lede = (*_opening(data), *_fell(data, told))
    return Headline(title=title, lede=lede)


def training_notes(data: TrainingReport) -> tuple[str, ...]:
    """What to look at before relying on the results."""
    return (*_broken(data.incidents), *_measured(data), *_read(data.sources), *data.warnings)


def incident_sentence(note: IncidentNote) -> str:
    """What happened in one sentence."""
    before = "" if note.before is None else f", {numbers.plain(note.before)} before"
    shown = numbers.plain(note.value)
    said = {
        "not finite": f"loss {numbers.plain(note.loss)}{before}",
        "gradient spike": f"gradient norm {shown}{before}",
        "divergence": f"median loss {shown}, lowest {numbers.plain(note.before)}",
    }.get(note.kind, f"loss {shown}{before}")
    if note.action == "mask":
        return f"{said}; the model was left out from then on"
    if note.action == "stop":
        return f"{said}; the training was stopped"
    if note.back_after is None:
        return f"{said}; not back since" if note.kind != "not finite" else said
    return f"{said}; back after {plural(note.back_after, 'step')}"


def _losses(rows: Sequence[Reached]) -> str:
    if len(rows) <= _SETS_IN_WORDS:
        first, *others = [f"{numbers.loss(row.bpb)} bits per byte on {row.eval_set}" for row in rows]
        return listed([first, *(other.replace(" bits per byte", "", 1) for other in others)])
    values = sorted(row.bpb for row in rows if row.bpb is not None)
    spread = f"{numbers.loss(values[0])} to {numbers.loss(values[-1])}"
    return f"{spread} bits per byte on {len(rows)} held-out texts"


def _opening(data: TrainingReport) -> tuple[str, ...]:
    names = list(dict.fromkeys(source.source.removesuffix(_COOLDOWN) for source in data.sources))
    read = listed(names) if len(names) <= 4 else f"{len(names)} sources"
    each = "" if data.n_models == 1 else " each"
    return (f"{data.model}, {numbers.count(data.n_tokens)} tokens{each}" + (f" of {read}." if read else "."),)


def _fell(data: TrainingReport, rows: Sequence[Reached]) -> tuple[str, ...]:
    """How much the loss changed since the first checkpoint."""
    first = {row.eval_set: row for row in reversed(data.reached) if row.bpb is not None}
    pairs = [(first[row.eval_set], row) for row in rows if first[row.eval_set].n_tokens < row.n_tokens]
    if not pairs or len({start.n_tokens for start, _ in pairs}) > 1:
        return ()
    since = f"Since {numbers.compact(pairs[0][0].n_tokens)} tokens"
    changes = [((end.bpb or 0.0) - (start.bpb or 0.0), end.eval_set) for start, end in pairs]
    if len(changes) <= _SETS_IN_WORDS:
        said: list[str] = []
        for change, name in changes:
            way = "fell by " if change <= 0 else "rose by "
            is_told = said and said[-1].startswith(way)
            said.append(f"{'' if is_told else way}{numbers.loss(abs(change))} on {name}")
        return (f"{since} the loss {listed(said)}.",)
    low, high = min(changes)[0], max(changes)[0]
    if high <= 0:
        least, most = numbers.loss(-high), numbers.loss(-low)
        return (f"{since} the loss fell by {least if least == most else f'{least} to {most}'}.",)
    return (f"{since} the loss changed by {numbers.difference(low)} to {numbers.difference(high)}.",)


def _broken(incidents: Sequence[IncidentNote]) -> list[str]:
    said = [
        f"{note.run} broke at step {numbers.count(note.step)} and was left out from then on; its later "
        "losses are not counted."
        for note in incidents
        if note.action == "mask"
    ]
    said += [
        f"{note.run}: a {note.kind} at step {numbers.count(note.step)} that never came back."
        for note in incidents
        if note.kind == "divergence" and note.back_after is None and note.action == "warn"
    ]
    return said[:_NOTES_A_KIND]


def _measured(data: TrainingReport) -> list[str]:
    said = []
    if data.n_models == 1:
        said.append(
            "One model was trained, so no interval is known: nothing here says how much of a difference to "
            "another training would be chance."
        )
    few = [row for row in final(data) if row.n_documents < _FEW_DOCUMENTS]
    said += [
        f"“{row.eval_set}” is measured on {plural(row.n_documents, 'document')} only."
        for row in few[:_NOTES_A_KIND]
    ]
    measured = {row.eval_set for row in data.reached}
    names = [source.source for source in data.sources if not source.source.endswith(_COOLDOWN)]
    said += [
        f"Nothing measures “{name}”: no document of it was drawn to be held out. A larger `held_out` helps."
        for name in [name for name in names if name not in measured][:_NOTES_A_KIND]
    ]
    if not data.is_plain_loss:
        said.append(
            "The training loss is that of the objective, and no yardstick for another objective; held-out "
            "texts are measured in plain bits per byte."
        )
    return said


def _read(sources: Sequence[SourceRead]) -> list[str]:
    total = sum(source.n_tokens for source in sources) or 1
    said = []
    for source in sources:
        name = f"“{source.source}”"
        share = source.n_tokens / total
        if source.passes > _MANY_PASSES:
            said.append(f"{name} was read {source.passes:.1f} times; repeats teach less than fresh text.")
        if share < source.wanted_share - _MISSED_SHARE:
            said.append(
                f"{name} was to be {numbers.percent(source.wanted_share)} of the tokens and was "
                f"{numbers.percent(share)}: it had had all its passes."
            )
    return said[:_NOTES_A_KIND]
