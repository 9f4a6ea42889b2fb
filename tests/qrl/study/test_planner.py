"""The planner against a closed form, against fresh studies, and at no effect."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from qrl.cli import main
from qrl.errors import InputError
from qrl.study.comparison import compare
from qrl.study.outperforms import Scores, scores_of
from qrl.study.planner import plan_study, seeds_needed
from qrl.study.statistics import compare_bootstrap
from qrl.study.survival import expected_cost


def agent(
    name: str, costs: np.ndarray, finals: np.ndarray | None = None, solved: np.ndarray | None = None
) -> Scores:
    n = len(costs)
    finals = np.zeros(n) if finals is None else finals
    spent = {"interactions": np.asarray(costs, dtype=float)}
    solved = np.ones(n, dtype=bool) if solved is None else solved
    return Scores(name, tuple(range(n)), solved, spent, dict(spent), finals, finals)


def apart(scores: Scores) -> Scores:
    """The same runs under seeds of their own, so that nothing is paired."""
    return Scores(
        scores.name,
        tuple(1_000 + seed for seed in scores.seeds),
        scores.solved,
        scores.spent,
        scores.total,
        scores.final_return,
        scores.mean_return,
    )


def test_normal_scores_need_what_the_t_test_says() -> None:
    rng = np.random.default_rng(0)
    quantiles = stats.norm.ppf((np.arange(400) + 0.5) / 400)  # a sample without luck
    a, b = (agent(name, np.ones(400), rng.permutation(quantiles)) for name in "ab")
    plan = seeds_needed(
        a, apart(b), axis="final_return", effect=0.6, power=0.9999, seeds=(30, 60), studies=600
    )
    for n, found in zip(plan.seeds, plan.power, strict=True):
        # the interquartile mean of normal scores has 1.195 times the variance of their mean (Huber 1981, section 5.6);
        # with few seeds the test is a little more careful than that
        shift = 0.6 / math.sqrt(2 * 1.195 / n)
        expected = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, shift)
        assert found == pytest.approx(expected, abs=0.08)


def test_the_planned_power_is_that_of_fresh_studies() -> None:
    rng = np.random.default_rng(1)
    pilot = [agent(name, rng.lognormal(0, 0.5, 200) * 1_000) for name in "ab"]
    plan = seeds_needed(pilot[0], apart(pilot[1]), effect=1.6, power=0.9999, seeds=(20,), studies=500)
    decided = 0
    for trial in range(250):
        a, b = rng.lognormal(0, 0.5, 20) / 1.6, rng.lognormal(0, 0.5, 20)
        ones = np.ones(20)
        test = compare_bootstrap(
            expected_cost, (a, ones), (b, ones), form="ratio", paired=False, draws=1_000, seed=trial
        )
        assert test.high is not None
        assert test.p_value is not None
        decided += test.high < 1 and test.p_value < 0.05
    assert plan.power[0] == pytest.approx(decided / 250, abs=0.12)
    assert 0.5 < plan.power[0] < 0.95


def test_without_an_effect_the_test_decides_as_often_as_it_may_err() -> None:
    rng = np.random.default_rng(2)
    a, b = (agent(name, rng.lognormal(0, 0.4, 100)) for name in "ab")
    plan = seeds_needed(a, apart(b), effect=1.000_001, power=0.99, seeds=(20,), studies=1_000)
    assert 0.008 <= plan.power[0] <= 0.045  # 2.5 % on the one side that is asked for
    assert plan.needed is None


def test_more_seeds_a_larger_effect_and_fewer_comparisons_give_more_power() -> None:
    rng = np.random.default_rng(3)
    a, b = (agent(name, rng.lognormal(0, 0.4, 40) * 500) for name in "ab")
    few = seeds_needed(a, b, effect=1.4, power=0.99, seeds=(10, 40))
    assert few.power[0] < few.power[1]
    assert seeds_needed(a, b, effect=2.0, power=0.99, seeds=(10,)).power[0] > few.power[0]
    assert seeds_needed(a, b, effect=1.4, power=0.99, seeds=(10,), comparisons=20).power[0] < few.power[0]
    assert seeds_needed(a, b, effect=2.0, power=0.8).needed in (8, 10, 12, 15, 20)


def test_seeds_in_common_are_drawn_together() -> None:
    rng = np.random.default_rng(4)
    common = rng.lognormal(0, 0.5, 40)
    a, b = agent("a", common), agent("b", common * rng.lognormal(0, 0.05, 40))
    paired = seeds_needed(a, b, effect=1.2, power=0.99, seeds=(10,)).power[0]
    assert paired > 0.9 > 0.5 > seeds_needed(a, apart(b), effect=1.2, power=0.99, seeds=(10,)).power[0]


def test_what_cannot_be_planned_is_refused_in_one_line() -> None:
    a, b = agent("a", np.ones(10)), agent("b", np.ones(10), solved=np.zeros(10, dtype=bool))
    with pytest.raises(
        InputError, match=r"^axis: interactions has no cost to scale: b reached the threshold never"
    ):
        seeds_needed(a, b, effect=1.5)
    with pytest.raises(InputError, match=r"^effect: 0.9 is no effect to look for; give a ratio above 1$"):
        seeds_needed(a, a, effect=0.9)
    with pytest.raises(
        InputError, match=r"^effect: 0.0 is no effect to look for; give a difference above 0$"
    ):
        seeds_needed(a, a, axis="final_return", effect=0.0)
    with pytest.raises(InputError, match=r"^axis: seconds was not recorded for a"):
        seeds_needed(a, b, axis="seconds", effect=1.5)
    with pytest.raises(InputError, match=r"^axis: money is not compared; use one of interactions"):
        seeds_needed(a, b, axis="money", effect=1.5)
    with pytest.raises(InputError, match=r"^power: 1.0 is not between 0 and 1"):
        seeds_needed(a, a, effect=1.5, power=1.0)
    with pytest.raises(InputError, match=r"^seeds: 4 are too few to simulate from; run at least 5 first$"):
        seeds_needed(a.of(range(4)), a.of(range(4)), effect=1.5)


def test_the_command_prints_a_row_a_pair(tmp_path, simulated, capsys) -> None:  # type: ignore[no-untyped-def]
    agents = simulated.standard_agents()[:3]
    agents[2].learning_point = math.inf
    study = simulated.write_study(tmp_path, agents=agents, seeds=range(8), evaluations=6)
    result = compare(study)
    plans, reasons = plan_study(result, axis="interactions", effect=3.0)
    assert [(plan.first, plan.second) for plan in plans] == [("hybrid", "twin")]
    assert [reason[:22] for reason in reasons] == ["hybrid against mlp: ax"]
    alone = seeds_needed(
        *(scores_of(result.agent(name)) for name in ("hybrid", "twin")),
        effect=3.0,
        comparisons=result.n_comparisons,
    )
    assert alone == plans[0]
    assert main(["plan", str(study), "--ratio", "3"]) == 0
    out, err = capsys.readouterr()
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("hybrid over twin"))
    assert row[3:5] == [str(alone.needed), f"{alone.observed:.2f}"]
    assert row[5:] == [f"{power:.2f}" for power in alone.power]
    assert "warning: hybrid against mlp: axis: interactions has no cost to scale" in err
    assert main(["plan", str(study), "--ratio", "1.5", "--difference", "3"]) == 2
    assert main(["plan", str(study), "--ratio", "1.5", "--axis", "final_return"]) == 2
    assert "error: --axis: " in capsys.readouterr().err
