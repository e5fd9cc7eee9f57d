"""The plan of trials: who trains with whom, and for how long."""

from prill.pipeline.trials import _together, control_tokens
from prill.recipe.model import TrialSpec


def test_stacks_hold_seeds_of_one_arm_and_lose_none() -> None:
    keys = [(arm, seed) for arm in ("random", "dsir:a", "dsir:b") for seed in range(5)]
    for stack in (1, 2, 3, 5, 16):
        groups = _together(keys, stack)
        assert sorted(key for group in groups for key in group) == sorted(keys)
        assert all(len(group) <= stack and len({arm for arm, _ in group}) == 1 for group in groups)


def test_the_first_seed_of_every_arm_trains_first_and_the_control_leads() -> None:
    keys = [(arm, seed) for arm in ("dsir:a", "random") for seed in range(2)]
    assert _together(keys, 1) == [(("random", 0),), (("dsir:a", 0),), (("random", 1),), (("dsir:a", 1),)]


def test_the_control_is_judged_wherever_the_arms_are_and_doubling_beyond() -> None:
    spec = TrialSpec(tokens=100_000, checkpoints=(0.5, 1.0), control_multiple=5)
    assert control_tokens(spec) == (50_000, 100_000, 200_000, 400_000, 500_000)
    assert control_tokens(TrialSpec(tokens=100_000, checkpoints=(1.0,))) == (100_000,)
