"""Conclusions from planted differences, and refusals where nothing can be concluded."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from prill.errors import DataError, RecipeError
from prill.study.arms import Arm
from prill.study.conclude import Conclusion, conclude
from prill.study.losses import COLUMNS, Losses
from prill.study.matching import Compute

ARMS = (
    Arm(name="dsir", kind="selected", target="fiction", method="dsir", label="DSIR's choice"),
    Arm(name="random", kind="random"),
)
FICTION = "target:fiction"
PAIR = [("fiction", "dsir", "random")]


def table(
    levels: dict[tuple[str, int, str], float],
    *,
    n_seeds: int = 3,
    n_docs: int = 40,
    seed: int = 0,
    seed_sd: float = 0.02,
    doc_sd: float = 0.05,
) -> pa.Table:
    """Losses in bits per byte at `levels`, with noise of seeds and documents; bytes differ by document."""
    rng = np.random.default_rng(seed)
    size = rng.integers(300, 1500, n_docs)
    topic = rng.normal(0, 0.3, n_docs)
    rows = []
    for (arm, n_tokens, eval_set), level in levels.items():
        for s in range(n_seeds):
            of_seed = rng.normal(0, seed_sd)
            bits = (level + of_seed + topic + rng.normal(0, doc_sd, n_docs)) * size
            rows += [
                (arm, s, n_tokens, eval_set, d, float(bits[d] * math.log(2)), int(size[d]), 100)
                for d in rng.permutation(n_docs)
            ]
    return pa.table(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))


def planted(final: float = 2.0) -> dict[tuple[str, int, str], float]:
    random = {250_000: 2.75, 500_000: 2.6, 1_000_000: 2.4, 2_000_000: 2.25, 4_000_000: 2.12, 8_000_000: 1.9}
    chosen = {250_000: 2.7 if final > 2.5 else 2.2, 500_000: final}
    return {
        **{("random", n, name): level for n, level in random.items() for name in (FICTION, "rest")},
        **{("dsir", n, FICTION): level for n, level in chosen.items()},
        **{("dsir", n, "rest"): level + 1 for n, level in chosen.items()},
    }


def test_a_planted_gain_is_found_and_told() -> None:
    found = conclude(table(planted(2.05)), PAIR, arms=ARMS).comparisons[0]
    assert found.verdict == "better"
    assert found.effect.n_tokens == 500_000
    assert found.effect.difference.estimate == pytest.approx(-0.55, abs=0.05)
    assert found.matching.control_needs.bound == "exact"
    # random is at 2.05 between 4 M (2.12) and 8 M (1.90): 4 * 2^(0.07 / 0.22) = 4.99 M, 10 times 0.5 M
    assert found.matching.control_needs.value == pytest.approx(10, rel=0.25)
    assert found.matching.arm_saves.bound == "at_least"
    assert found.sentence.startswith("For `fiction`, DSIR's choice reached 2.")
    for part in (
        "for random at equal 0.5 M tokens: 0.5",
        " lower (95 %, 3 seeds, 40 documents). Random would need",
    ):
        assert part in found.sentence
    assert any("that is what the choice costs there" in detail for detail in found.details)
    assert found.elsewhere[0].eval_set == "rest"


def test_subtracting_the_shown_numbers_gives_the_shown_difference() -> None:
    for seed in range(12):
        sentence = conclude(table(planted(), seed=seed), PAIR, arms=ARMS).comparisons[0].sentence
        words = sentence.split()
        arm, control = float(words[words.index("reached") + 1]), float(words[words.index("against") + 1])
        size = float(words[words.index("±") - 1])
        assert control - arm == pytest.approx(size, abs=1e-9)


def test_beyond_the_curve_only_bounds_are_given() -> None:
    found = conclude(table(planted(1.5)), PAIR, arms=ARMS).comparisons[0]
    assert (found.matching.control_needs.bound, found.matching.control_needs.value) == ("at_least", 16)
    assert "would need more than 16 times the tokens to match it: trained on 8 M tokens" in found.sentence
    short = {key: level for key, level in planted(1.5).items() if key[1] <= 500_000}
    found = conclude(table(short), PAIR, arms=ARMS).comparisons[0]
    assert "with at least 2 times fewer tokens: its first checkpoint was already there." in found.sentence


def test_one_seed_cannot_tell() -> None:
    found = conclude(table(planted(), n_seeds=1), PAIR, arms=ARMS).comparisons[0]
    assert found.verdict == "cannot tell"
    assert found.p_value is None
    assert found.effect.noise_floor is None
    assert "one seed gives no estimate of the noise between seeds" in found.sentence


def test_one_document_cannot_tell() -> None:
    found = conclude(table(planted(), n_docs=1), PAIR, arms=ARMS).comparisons[0]
    assert found.verdict == "cannot tell"
    assert "one document" in found.sentence


def test_identical_arms_differ_by_exactly_nothing() -> None:
    evals = table({("random", 500_000, FICTION): 2.5})
    twin = evals.set_column(0, "arm", pa.array(["dsir"] * evals.num_rows))
    found = conclude(pa.concat_tables([evals, twin]), PAIR, arms=ARMS).comparisons[0]
    assert found.verdict == "no difference"
    assert set(found.effect.differences.values()) == {0.0}
    assert (found.effect.difference.low, found.effect.difference.high, found.largest_bpb) == (0, 0, 0)
    assert found.sentence == (
        "For `fiction`, DSIR's choice and random gave the same losses at equal 0.5 M tokens: "
        "no difference at all."
    )


def test_seeds_that_do_not_differ_cannot_tell() -> None:
    evals = table({("random", 9, FICTION): 2.5, ("dsir", 9, FICTION): 2.0}, n_seeds=1)
    again = evals.set_column(1, "seed", pa.array([1] * evals.num_rows))
    found = conclude(pa.concat_tables([evals, again]), PAIR, arms=ARMS).comparisons[0]
    assert found.verdict == "cannot tell"
    assert "all seeds gave identical losses" in found.sentence


def test_noise_is_rarely_called_a_finding() -> None:
    levels = {("random", 500_000, FICTION): 2.5, ("dsir", 500_000, FICTION): 2.5}
    verdicts = [
        conclude(table(levels, seed=s), PAIR, arms=ARMS, n_resamples=10).comparisons[0].verdict
        for s in range(100)
    ]
    wrong = sum(v in ("better", "worse") for v in verdicts)
    assert wrong <= 11  # 5 % of 100 is 5 with sd 2.2


def test_a_tight_null_is_no_difference_with_its_bound() -> None:
    levels = {("random", 500_000, FICTION): 2.5, ("dsir", 500_000, FICTION): 2.5}
    evals = table(levels, seed_sd=0.001, doc_sd=0.005, n_docs=200)
    found = conclude(evals, PAIR, arms=ARMS).comparisons[0]
    assert found.verdict == "no difference"
    assert found.largest_bpb is not None
    assert found.largest_bpb < 0.02
    assert "no difference larger than 0.00" in found.sentence
    cannot = conclude(evals, PAIR, arms=ARMS, margin_bpb=0.0).comparisons[0]
    assert cannot.verdict == "cannot tell"
    assert "the noise is larger than the difference" in cannot.sentence


def test_worse_is_said_as_plainly_as_better() -> None:
    found = conclude(
        table(planted(2.9)), PAIR, arms=ARMS, compute=Compute(train_flops_per_token=1.0)
    ).comparisons[0]
    assert found.verdict == "worse"
    assert " higher (95 %" in found.sentence
    assert found.matching_sentence == ""
    assert found.ledger is not None
    assert found.ledger.holds is False


def test_many_comparisons_are_corrected() -> None:
    levels: dict[tuple[str, int, str], float] = {("random", 500_000, FICTION): 2.5}
    levels |= {(f"arm{i}", 500_000, FICTION): 2.5 for i in range(6)}
    levels[("good", 500_000, FICTION)] = 1.5
    comparisons = [("fiction", arm, "random") for arm in [*(f"arm{i}" for i in range(6)), "good"]]
    found = conclude(table(levels), comparisons)
    by_arm = {c.arm: c for c in found.comparisons}
    assert by_arm["good"].verdict == "better"
    assert by_arm["good"].p_adjusted == pytest.approx(7 * (by_arm["good"].p_value or 0))
    assert all(c.p_adjusted >= c.p_value for c in found.comparisons)  # type: ignore[operator]
    assert "corrected for 7 comparisons (Holm)" in " ".join(found.notes)
    assert any("Corrected for 7 comparisons" in d for d in by_arm["good"].details)


def test_the_cost_of_choosing_is_counted_in_tokens() -> None:
    compute = Compute(train_flops_per_token=6e6, scoring_flops={"dsir": 6e6 * 250_000})
    found = conclude(table(planted()), PAIR, arms=ARMS, compute=compute).comparisons[0]
    ledger = found.ledger
    assert ledger is not None
    assert (ledger.scoring_share, ledger.n_tokens_equal_compute) == (0.5, 750_000)
    # random at 0.75 M: 2.6 - 0.2 * log2(1.5) = 2.483, so the difference shrinks from 0.60 to 0.48
    assert ledger.difference_equal_compute is not None
    assert ledger.difference_equal_compute.estimate == pytest.approx(-0.483, abs=0.06)
    assert ledger.holds
    assert (
        "as 50 % of training one such model; for the same total random may train on 0.75 M tokens"
        in found.details[-1]
    )
    short = {key: level for key, level in planted().items() if key[1] <= 500_000}
    assert conclude(table(short), PAIR, compute=compute).comparisons[0].ledger.holds is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("final", "longest", "cost", "said"),
    [
        (2.0, 500_000, 0.0, "no compute worth counting"),
        (2.0, 500_000, 100.0, "so equal tokens are nearly equal compute"),
        (
            2.0,
            500_000,
            250_000.0,
            "It was not trained that far, so the finding is not tested at equal compute.",
        ),
        (2.0, 1_000_000, 250_000.0, "may train on 0.75 M tokens. Then the difference is -0.4"),
        (2.0, 1_000_000, 9e6, "not tested"),
        (2.9, 500_000, 250_000.0, "The comparison at equal tokens leaves that advantage out."),
    ],
)
def test_the_cost_is_told_as_far_as_it_is_known(final: float, longest: int, cost: float, said: str) -> None:
    levels = {key: level for key, level in planted(final).items() if key[1] <= longest}
    compute = Compute(train_flops_per_token=1.0, scoring_flops={"dsir": cost})
    assert said in conclude(table(levels), PAIR, arms=ARMS, compute=compute).comparisons[0].details[-1]


def test_one_long_control_run_is_enough_for_a_bound_but_not_for_an_interval() -> None:
    evals = table(planted(2.05))
    rows = zip(evals["seed"].to_pylist(), evals["n_tokens"].to_pylist(), strict=True)
    evals = evals.filter(pa.array([s == 0 or n <= 500_000 for s, n in rows]))
    compute = Compute(train_flops_per_token=1.0, scoring_flops={"dsir": 250_000.0})
    levels = evals.filter(pa.array([not (a == "random" and n > 4_000_000) for a, n in _arm_tokens(evals)]))
    found = conclude(levels, PAIR, arms=ARMS, compute=compute).comparisons[0]
    assert found.matching.control_needs.n_seeds == 1
    assert found.matching.control_needs.bound == "at_least"
    assert found.effect.n_seeds == 3
    assert found.ledger is not None
    assert (found.ledger.difference_equal_compute, found.ledger.holds) == (None, True)
    assert "It needs more than that to match, so the finding holds at equal compute." in found.details[-1]


def _arm_tokens(evals: pa.Table) -> list[tuple[str, int]]:
    return list(zip(evals["arm"].to_pylist(), evals["n_tokens"].to_pylist(), strict=True))


def test_conclusions_are_plain_repeatable_json_whatever_the_row_order() -> None:
    evals = table(planted())

    def dumped(found: Conclusion) -> str:
        return json.dumps(found.to_json(), allow_nan=False)

    shuffled = evals.take(np.random.default_rng(1).permutation(evals.num_rows))
    first = dumped(conclude(evals, PAIR, arms=ARMS))
    assert first == dumped(conclude(shuffled, PAIR, arms=ARMS))
    assert first != dumped(conclude(evals, PAIR, arms=ARMS, seed=1))  # the bootstrap's generator
    parsed = json.loads(first)
    assert parsed["comparisons"][0]["verdict"] == "better"
    assert {c["arm"] for c in parsed["curves"]} == {"dsir", "random"}
    assert parsed["curves"][0]["points"][0]["n_tokens"] == 250_000


def test_bits_per_byte_by_hand() -> None:
    # (ln 2 * 8 + ln 2 * 4) nats over 4 + 2 bytes: 12 bits / 6 bytes = 2.
    rows = {
        "arm": ["a", "a"],
        "seed": [0, 0],
        "n_tokens": [1, 1],
        "eval_set": ["rest", "rest"],
        "doc": [0, 1],
        "loss_nats": [8 * math.log(2), 4 * math.log(2)],
        "n_bytes": [4, 2],
        "n_tokens_doc": [1, 1],
    }
    assert Losses.read(pa.table(rows)).bpb("a", "rest", (0, 1)) == pytest.approx(2)


def test_a_loss_that_is_not_finite_is_named() -> None:
    evals = table(planted())
    for bad in (math.nan, math.inf):
        loss = evals["loss_nats"].to_pylist()
        loss[7] = bad
        broken = evals.set_column(5, "loss_nats", pa.array(loss, pa.float64()))
        doc = evals["doc"][7].as_py()
        with pytest.raises(
            DataError, match=rf"arm 'random', seed 0, 250,000 tokens, 'target:fiction', doc {doc}: a loss"
        ):
            conclude(broken, PAIR)


def test_missing_arms_and_sets_are_named() -> None:
    evals = table(planted())
    with pytest.raises(DataError, match="did you mean 'random'"):
        conclude(evals, [("fiction", "dsir", "randon")])
    with pytest.raises(DataError, match="expected evaluations on 'target:fition'"):
        conclude(evals, [("fition", "dsir", "random")])
    with pytest.raises(DataError, match="found no loss_nats"):
        conclude(evals.drop_columns(["loss_nats"]), PAIR)
    with pytest.raises(DataError, match="found none"):
        conclude(evals.slice(0, 0), PAIR)


def test_models_measured_on_different_documents_are_refused() -> None:
    evals = table(planted())
    with pytest.raises(
        DataError, match="expected the same 40 documents as every other model of this set, found 39"
    ):
        conclude(evals.slice(0, evals.num_rows - 1), PAIR)
    with pytest.raises(DataError, match="found two"):
        conclude(pa.concat_tables([evals, evals.slice(3, 1)]), PAIR)
    sizes = evals["n_bytes"].to_pylist()
    sizes[-1] += 1
    with pytest.raises(DataError, match="bytes as for other models"):
        conclude(evals.set_column(6, "n_bytes", pa.array(sizes)), PAIR)


def test_arms_without_a_common_seed_are_refused() -> None:
    evals = table({("random", 5, FICTION): 2.0, ("dsir", 7, FICTION): 2.0})
    with pytest.raises(DataError, match="expected a seed and token count that 'dsir' and 'random' share"):
        conclude(evals, PAIR)


def test_only_paired_seeds_count() -> None:
    evals = table({("random", 5, FICTION): 2.0, ("dsir", 5, FICTION): 2.0}, n_seeds=4)
    keep = [
        not (a == "dsir" and s == 3)
        for a, s in zip(*(evals[c].to_pylist() for c in ("arm", "seed")), strict=True)
    ]
    assert conclude(evals.filter(pa.array(keep)), PAIR).comparisons[0].effect.n_seeds == 3


@pytest.mark.parametrize("comparisons", [[], PAIR * 2, [("fiction", "random", "random")]])
def test_comparisons_that_make_no_sense_are_refused(comparisons: list[tuple[str, str, str]]) -> None:
    with pytest.raises(RecipeError):
        conclude(table(planted()), comparisons)


def test_costs_below_zero_are_refused() -> None:
    with pytest.raises(RecipeError, match="training costs more than 0"):
        Compute(train_flops_per_token=0.0)
