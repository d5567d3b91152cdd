"""What pages say of confidence, of cost at equal accuracy, and of the order of several runs."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from romvae.commands.text import skill
from romvae.report import verdict
from romvae.report.cost import cost_charts, cost_rows
from romvae.report.page import render
from romvae.report.ranking import ranking_verdict, render_ranking
from romvae.report.reading import percent
from romvae.report.speed import costs, run_text, slower
from romvae.report.tables import interval_rows, scores, tiles
from romvae.report.trust import trust_sentence, trust_table
from romvae.report.verdict import loses

from .conftest import EVIL
from .fake import fake_comparison, fake_ranking


def _metrics(loses: bool = False) -> dict[str, Any]:
    return copy.deepcopy(fake_comparison(shape=(4,), times=3, examples=1, loses=loses).metrics)


def test_the_verdict_gives_interval_p_value_and_equal_accuracy() -> None:
    text = " ".join(verdict(_metrics()))
    assert "(relative L2 error; 95 % confidence: 2.8 % to 3.7 %)" in text
    assert "5.4 times smaller, on 31 of 32 trajectories, which is more than chance (p < 0.001)." in text
    assert (
        "At equal accuracy the ROM is 1.5 times faster for one trajectory and 15 times in batches of 64, against the "
        "cheapest solver run that is as accurate (the solver with resolution = 64, step = 0.02, every 2nd time, 3.0 % "
        "off)." in text
    )
    assert "With its uncertainty (32 members), which the solver does not give, it is 2.1 times slower" in text
    assert "Training took 3 min 0 s and the simulations for it 54 s, which is earned back after about 8400" in text


@pytest.mark.parametrize(("own", "best"), [(0.05, 0.049), (0.049, 0.05)])
def test_where_chance_explains_the_difference_nobody_wins_or_loses(own: float, best: float) -> None:
    metrics = _metrics()
    metrics["rom"]["relative_l2"] = own
    metrics["baselines"] = {"pod_linear": {"relative_l2": best}}
    metrics["significance"] |= {"p_value": 0.6, "difference": best - own, "better_on": 18 if own < best else 14}
    sentences = verdict(metrics)
    assert sentences[1] == (
        f"The ROM and POD with linear dynamics, the best simple method tried, cannot be told apart: they are "
        f"{percent(own)} and {percent(best)} off, and the one with the smaller error has it on 18 of 32 trajectories "
        "(p = 0.6). Consider the simpler method."
    )
    assert "loses" not in " ".join(sentences)
    assert "smaller than" not in " ".join(sentences)
    assert not loses(metrics)


def test_a_method_that_is_better_on_every_one_of_few_trajectories_wins_though_chance_is_not_ruled_out() -> None:
    metrics = _metrics(loses=True)
    metrics["significance"] |= {"p_value": 0.12, "difference": -0.1, "better_on": 0, "trajectories": 4}
    first = verdict(metrics)[0]
    assert "loses here, use POD with interpolation instead" in first
    assert "on all of 4 trajectories, which are too few to rule out chance (p = 0.12)" in first
    assert loses(metrics)


@pytest.mark.parametrize("baseline", [None, "dmd"])
@pytest.mark.parametrize("bad", [False, True])
def test_losing_and_being_slow_are_in_the_first_sentences_after_a_choice_among_models_too(bad, baseline) -> None:
    """The command line prints the first three of the list; here even those of the text."""
    metrics = _metrics(loses=bad)
    metrics["cost"]["rom"]["mean"] |= {"speed_up": 0.2, "speed_up_batch": 0.5}
    entries = [{"name": "vae", "relative_l2": 0.03}, {"name": "dmd", "relative_l2": 0.04}]
    metrics |= {"ranking": {"entries": entries, "trajectories": 9}, "model": {"name": baseline}}
    metrics["kept"] = {
        "compression": {"kept": "pod", "error": 0.08, "pod_error": 0.03, "pod_forecast": 0.1, "forecast": 0.2},
        "dynamics": {"kept": "linear", "scores": {"gru": {"crps": 0.2}, "linear": {"crps": 0.1}}},
    }
    metrics["rom"] |= {"not_resolvable": True, "reference_error": 0.05}
    first = re.split(r"(?<=[.]) (?=[A-Z])", " ".join(verdict(metrics)))[:3]
    assert any("is slower than the solver at equal accuracy" in each for each in first)
    assert ("loses here, use POD with interpolation instead" in first[0]) == bad


def test_a_solver_without_a_batched_mode_is_named_where_batches_are_compared() -> None:
    metrics = _metrics()
    said = "The solver has no batched mode: batches are compared with its runs one by one."
    assert said not in costs(metrics)  # a comparison of an earlier version does not tell
    for batched in (True, False):
        metrics["cost"]["solver"]["batched"] = batched
        assert (said in costs(metrics)) == (not batched)
        assert ("no batched mode" in dict(cost_rows(metrics))["the solver in a batch"]) == (not batched)


@pytest.mark.parametrize(
    ("whole", "fifths", "count", "words"),
    [
        (0.9, [0.9] * 5, 200, "they can be taken at their word"),
        (0.9, [0.86, 0.88, 0.9, 0.92, 0.94], 200, "they can be taken at their word"),
        (
            0.9,
            [0.55, 0.95, 1.0, 1.0, 1.0],
            200,
            "that is right on average only, for they are too narrow in the 1st (55 %) fifth and too wide in the 3rd "
            "(100 %), 4th (100 %) and 5th (100 %) fifth of the horizon",
        ),
        (0.93, [0.93] * 5, 200, "they are too wide, so treat the ROM as knowing more than it claims"),
        (0.87, [0.87] * 5, 200, "they are too narrow, so treat the ROM as overconfident"),
        (0.87, [0.87] * 5, 199, "they can be taken at their word"),
        (
            0.83,
            [0.8] * 5,
            199,
            "they are too narrow, so treat the ROM as overconfident; by lead time they are too narrow in",
        ),
        (0.9, [0.83, 0.9, 0.9, 0.9, 0.97], 199, "they can be taken at their word"),
        (0.9, [None, 0.9, 0.9, 0.9, 0.9], 200, "they can be taken at their word"),
        (0.9, [], 200, "that is right on average, but how they do early and late was not measured"),
    ],
)
def test_intervals_are_taken_at_their_word_where_all_fifths_hold_too(whole, fifths, count, words) -> None:
    """Standard errors of 0.02 and 0.03 widen the limits where there are fewer than 200 trajectories."""
    rom = {"coverage_90": whole, "coverage_90_se": 0.02, "coverage_90_fifths": fifths}
    rom |= {"coverage_90_fifths_se": [0.03] * len(fifths), "relative_l2": 0.05}
    said = verdict({"rom": rom, "data": {"split": {"test": count}}})
    assert words in next(each for each in said if "90 % intervals" in each)


def test_a_baseline_that_diverged_has_no_error_and_the_page_says_why() -> None:
    comparison = fake_comparison(shape=(8,), times=3, examples=1)
    comparison.metrics["baselines"]["dmd"] = {
        "relative_l2": None,
        "diverged": "dmd: not finite at time 2.",
    }
    said = "Forecasts of the held-out trajectories diverged, so that there is no error to compare: dynamic mode"
    assert said in " ".join(verdict(comparison.metrics))
    assert scores(comparison.metrics)[-1].values == ("diverged", "–", "–")
    assert "dmd: not finite at time 2." in render(comparison)
    assert "dmd                  diverged" in skill(comparison.metrics)


def test_a_rom_slower_than_an_equally_accurate_solver_says_so_in_the_first_lines() -> None:
    metrics = _metrics()
    metrics["cost"]["rom"]["mean"] |= {"speed_up": 0.2, "speed_up_batch": 0.5}
    assert slower(metrics)
    assert verdict(metrics)[1].startswith(
        "The ROM is slower than the solver at equal accuracy: 5.0 times for one trajectory and 2.0 times in batches"
    )
    metrics["cost"]["rom"]["mean"] |= {"speed_up": 0.5, "speed_up_batch": 3.0}
    assert "for one trajectory (2.0 times), and faster in batches of 64 (3.0 times)" in verdict(metrics)[1]


def test_an_error_below_the_reference_s_own_is_flagged() -> None:
    metrics = _metrics()
    metrics["rom"] |= {"not_resolvable": True, "reference_error": 0.05}
    assert verdict(metrics)[1].startswith("That is below the reference's own error of 5.0 %: not resolvable.")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"solver": {"complete": False}}, "ended by its time cap: the solver may be cheaper"),
        ({"solver": {"warning": "the solver does not repeat the data"}}, "A caution: the solver does not repeat"),
        ({"pay_off": {"training_seconds": 10.0}}, "which no number of rollouts earns back"),
        ({"unknown": "no solver is known for these data"}, "Nothing can be said about a speed-up: no solver is known"),
    ],
)
def test_limits_of_the_costs_are_said(change: dict[str, Any], words: str) -> None:
    metrics = _metrics()
    assert words in " ".join(costs({**metrics, "cost": {**metrics["cost"], **change}}))


def test_a_target_that_no_run_reaches_is_no_speed_up() -> None:
    metrics = _metrics()
    metrics["cost"]["rom"]["mean"] |= {"solver": None, "speed_up": None, "solver_batch": None, "speed_up_batch": None}
    assert "No run of the solver that was tried comes as close" in " ".join(costs(metrics))
    assert not slower(metrics)


def test_the_table_of_trust_horizons_says_what_held_and_what_could_be() -> None:
    table = trust_table(_metrics())
    assert table is not None
    assert table.columns[1] == "Held"
    first, last = table.lines[0], table.lines[-1]
    assert first == (("5.0 %", ""), ("91 %", "78 % to 100 %"), ("0 %", ""), ("0.21 s", ""), ("0.33 s", ""))
    assert [text for text, _ in last[3:]] == ["the end", "the end"]
    assert "90 % or more are promised" in table.caption
    assert "with 32 calibration runs. Forecasts end at 1 s." in table.caption
    assert trust_table({"rom": {"trust": {"not_measured": "too few"}}}) is None


def test_the_verdict_has_a_sentence_on_trust() -> None:
    metrics = _metrics()
    assert (
        "Half of its forecasts are trusted for 0.62 s or longer to stay below an error of 10 % of the field's standard "
        "deviation, and 94 % of the runs stayed below it for as long as that was said of them."
    ) in " ".join(verdict(metrics))
    usual = metrics["rom"]["trust"]["tolerances"][1]
    usual["median_horizon"] = 1.0
    assert "are trusted to the end to stay below" in trust_sentence(metrics)
    usual["median_horizon"] = 0.0
    assert "Fewer than half of its forecasts are trusted" in trust_sentence(metrics)
    assert trust_sentence({}) == ""


def test_intervals_stand_below_their_scores() -> None:
    first = scores(_metrics())[0]
    assert first.values[0] == "3.2 %"
    assert first.spreads == ("2.8 % to 3.7 %", "", "0.029 to 0.038")
    assert ("relative L2 error", "0.0321 (0.028 to 0.037)") in interval_rows(_metrics())


def test_the_tile_compares_at_equal_accuracy() -> None:
    tile = tiles(_metrics())[-1]
    assert (tile.name, tile.value) == ("Against the solver, as accurate", "15 × faster")
    assert tile.note == "in batches; 1.5 × faster for one trajectory"


def test_costs_are_shown_with_what_they_are_compared_with() -> None:
    lines = dict(cost_rows(_metrics()))
    assert lines["ROM mean forecast, without uncertainty, batch of 64"] == (
        "0.002 s at 3.2 % error: 15 times faster than the solver with resolution = 64, step = 0.02, every 2nd time, "
        "which takes 0.03 s for 3.0 %"
    )
    assert lines["before the first rollout"] == "3 min 0 s of training, 54 s for 256 simulations"
    (picture,) = cost_charts(_metrics())
    assert "ROM, mean forecast 3.2 % at 0.02 s" in picture.alt
    assert cost_charts({}) == []
    assert cost_rows({}) == []


def test_settings_of_a_run_are_short() -> None:
    assert run_text({"settings": {"resolution": [32, 96]}, "every": 3}) == (
        "the solver with resolution = 32 x 96, every 3rd time"
    )


def test_the_ranking_names_the_best_and_what_may_be_chance() -> None:
    text = ranking_verdict(fake_ranking().metrics)
    assert text[0] == "large is the most accurate of 3 runs: 2.0 % off on 32 held-out trajectories."
    assert text[1] == "Chance may explain its lead over middle: more held-out trajectories would tell."
    assert text[2] == "small has the cheapest rollouts, 10 times cheaper than the best."


def test_a_ranking_in_which_a_baseline_wins_says_so() -> None:
    metrics = fake_ranking().metrics
    metrics["baseline"]["relative_l2"] = 0.001
    assert "None of them is as good as the baseline POD with linear dynamics, which is 0.10 % off" in " ".join(
        ranking_verdict(metrics)
    )


@pytest.mark.parametrize(
    ("error", "p_value", "words"),
    [
        (
            0.001,
            0.001,
            "None of them is as good as the baseline POD with linear dynamics, which is 0.10 % off: use that.",
        ),
        (0.019, 0.4, "None of them is more accurate than the baseline POD with linear dynamics, which is 1.9 % off"),
        (0.021, 0.4, "Chance may explain the lead over the baseline POD with linear dynamics, which is 2.1 % off."),
        (0.2, 0.001, ""),
    ],
)
def test_the_ranking_calls_no_winner_over_a_baseline_by_chance(error: float, p_value: float, words: str) -> None:
    metrics = fake_ranking().metrics
    metrics["baseline"] |= {"relative_l2": error, "against_best": {"p_value": p_value}}
    text = " ".join(ranking_verdict(metrics))
    assert words in text
    assert ("baseline" in text) == bool(words)
    assert ("use that" in text) == (error < 0.019)


def test_the_ranking_shows_settings_that_differ_and_escapes_names(ranking_page: Path) -> None:
    page = render_ranking(fake_ranking(EVIL))
    assert "model.channels" in page
    assert "model.latent" not in page
    assert EVIL not in page
    assert ranking_page.read_text(encoding="utf-8") == page
