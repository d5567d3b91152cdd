"""The error that a data set states of itself: its size, where it comes from, and what cannot be known."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from romvae.errors import DataError
from romvae.solvers import Burgers1d, cost_table, cost_text, get_case, reference_error, simulate
from romvae.solvers.blocks import Ensemble
from romvae.solvers.discretisation import doubts

from decay import DECAY, Decay, scaled  # isort: skip


def test_the_estimate_is_the_error_of_euler_steps():
    """One step of size h per stored time is off by rate^2 h t / 2, relatively; the finer run keeps half of that."""
    case = replace(DECAY, solver=partial(Decay, steps=64), times=(0.0, 1.0))
    found = reference_error(simulate(case, n=6, error_estimate=True))
    assert found is not None
    rates = [case.draw(i).solver.parameters["rate"] for i in found["trajectories"]]
    expected = max(rates) ** 2 / 64 / 2 / 2
    # Next to the leading term there is one of relative size rate h; three digits are stored.
    assert found["fields"]["u"]["worst_time"] == pytest.approx(expected, rel=0.03)
    assert found["fields"]["u"]["worst_trajectory"] < found["fields"]["u"]["worst_time"]  # half of its times are exact
    assert found["fields"]["u"]["relative_l2"] <= found["fields"]["u"]["worst_trajectory"]
    assert set(found["fields"]) == {"u", "v"}
    assert (found["settings"]["steps"], found["refined_settings"]["steps"]) == (64, 128)
    assert found["exact"] is False
    assert found["reason"] is None


def test_the_extremes_of_the_parameters_are_among_those_compared():
    ensemble = Ensemble.of(DECAY, 20)
    draws = [ensemble.draw(i) for i in range(20)]
    parameters = [{**d.solver.parameters, **d.parameters} for d in draws]
    chosen = {doubt.index for doubt in doubts(ensemble, range(20), parameters)}
    assert 3 <= len(chosen) <= 5
    for name in ("rate", "height"):
        column = [row[name] for row in parameters]
        assert {int(np.argmin(column)), int(np.argmax(column))} <= chosen


def test_a_point_outside_of_the_mask_does_not_count():
    class Wild(Decay):
        def _integrate(self, u0, times):
            u = super()._integrate(u0, times)
            u[1:, :, 1, 1] *= self.steps  # the point that the mask leaves out
            return u

    quiet, wild = (
        reference_error(simulate(replace(DECAY, solver=partial(kind, masked=True)), n=3, error_estimate=True))
        for kind in (Decay, Wild)
    )
    assert quiet["fields"] == wild["fields"]


def test_exact_solvers_and_those_without_a_finer_version_say_so():
    exact = reference_error(simulate("heat_1d", n=2, error_estimate=True))
    assert exact["exact"] is True
    assert exact["fields"] == {}

    class Plain(Decay):
        def refined(self):
            return None

    plain = reference_error(simulate(replace(DECAY, solver=Plain), n=2, error_estimate=True))
    assert plain["exact"] is False
    assert plain["reason"] == "decay has no finer version of itself"


def test_a_finer_run_that_fails_is_left_out_and_named():
    class Halting(Decay):
        def refined(self):
            return Halting(self.rate, 0.5 * self.limit, 2 * self.steps)

    case = replace(DECAY, solver=partial(Halting, limit=1.0))
    found = reference_error(simulate(case, n=20, error_estimate=True))
    assert 0 < len(found["trajectories"]) < 5
    assert "the finer run failed: trajectory " in found["reason"]
    assert "it decays too fast" in found["reason"]


def test_data_without_an_estimate_have_none_and_nonsense_is_refused():
    ds = simulate(DECAY, n=2)
    assert reference_error(ds) is None
    with pytest.raises(DataError, match="attribute reference_error is '7', expected JSON"):
        reference_error(ds.assign_attrs(reference_error="7"))


def test_progress_counts_the_trajectories_that_are_solved_again():
    seen: list[tuple[int, int]] = []
    simulate(DECAY, n=20, error_estimate=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 20)
    assert seen[-1] == (24, 24)
    assert json.dumps(seen) == json.dumps(sorted(seen))


def test_a_cost_table_orders_errors_by_step():
    """Euler's error halves with the step, within the second order's share; the case itself is a variant too."""
    case = replace(DECAY, solver=Decay, initial=scaled)
    rows = cost_table(case, [{}, {"steps": 16}, {"steps": 32}], reference={"steps": 4096}, trajectories=3)
    errors = np.array([row.error for row in rows])
    assert errors[:-1] / errors[1:] == pytest.approx(2, rel=0.05)
    assert all(row.seconds > 0 and row.seconds_batched > 0 for row in rows)
    text = cost_text(rows).splitlines()
    assert text[0] == "| steps | worst error | median error | ms one by one | ms together |"
    assert [line.split("|")[1].strip() for line in text[2:]] == ["as it is", "16", "32"]


def test_a_variant_that_fails_says_so_in_its_row():
    rows = cost_table(DECAY, [{"limit": 0.0}], reference={"steps": 64}, trajectories=1)
    assert "it decays too fast" in rows[0].failed
    assert "failed" in cost_text(rows)


def test_the_case_of_the_demo_states_an_error_below_what_its_class_documents():
    case = get_case("burgers_1d")
    found = reference_error(simulate(replace(case, times=case.times[:6]), n=16, error_estimate=True))
    if found["fields"]:  # its finer version is optional
        assert found["fields"]["u"]["worst_trajectory"] < 1.4e-7  # documented: over 24 steep trajectories
    assert isinstance(case.draw(0).solver, Burgers1d)
