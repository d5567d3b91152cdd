"""Speed-ups on the page: with members, the size of the batch, whether the search was cut short, and where."""

from __future__ import annotations

import pytest

from romvae.benchmark import find_problems
from romvae.benchmark.costs import rollout_table, speed_up
from romvae.benchmark.machines import machines_sentence, on_what
from romvae.benchmark.result import write_result
from romvae.benchmark.speed import conditions, is_sound, speed_row, speed_sentence, timed_sentence
from romvae.benchmark.summary import extract
from romvae.benchmark.targets import targets_table
from tests.benchmark.conftest import make_folder
from tests.benchmark.fake import RECIPE, content, groups, row

FLAT = ("heat_2d", "burgers_2d", "wave_2d")


def timed(factor=12.5, batch=64, complete=True, members=None, processor="Some CPU", threads=1, **costs):
    one = content(0.01, {"persistence": 0.5})
    cost = one["metrics"]["cost"]
    cost["rom"]["mean"] |= {"speed_up_batch": factor, "batch": batch}
    cost["rom"]["ensemble"] = {"speed_up_batch": members}
    cost["solver"]["complete"] = complete
    cost |= costs
    one["machine"] |= {"processor": processor, "threads": threads}
    return one


@pytest.fixture
def flat(tmp_path):
    """Writes a result of each of three two-dimensional problems and returns their groups."""

    def written(*contents):
        for name, one in zip(FLAT, contents, strict=False):
            folder = make_folder(tmp_path, RECIPE, name)
            write_result(find_problems(folder)[name], 0, one)
        return groups(folder)

    return written


@pytest.mark.parametrize(
    ("batch", "complete", "words", "sound"),
    [
        (64, True, [], True),
        (128, True, ["batch of 128"], True),
        (41, True, ["batch of 41"], False),
        (64, False, ["search cut short"], False),
        (41, False, ["batch of 41", "search cut short"], False),
        (None, None, ["batch of unknown size", "search of unknown end"], False),
    ],
)
def test_what_a_speed_up_rests_on_stands_beside_it_and_decides_whether_it_counts(flat, batch, complete, words, sound):
    found = flat(timed(batch=batch, complete=complete, members=0.5))
    assert conditions(found[0][1]) == words
    assert is_sound(found[0][1]) is sound
    quoted = f"heat_2d 12.5 ({', '.join(['0.5 with members', *words])})"
    assert f"on 1 of 1 problems: {quoted}." in speed_sentence(found)
    assert ("cheaper setting of the solver" in speed_sentence(found)) is (complete is False)
    cell = row(extract(found), "heat_2d")[-2]
    assert cell == "12.5" + (f" ({', '.join(words)})" if words else "")
    reached, missed = speed_row(found)[2:]
    assert (reached, missed) == (
        (f"1 of 1: {quoted}", "the target as a whole")
        if sound
        else ("0 of 1", f"the target as a whole; as fast, but not counted: {quoted}")
    )


def test_one_seed_that_is_not_sound_is_enough(tmp_path):
    problem = find_problems(make_folder(tmp_path, RECIPE, "heat_2d"))["heat_2d"]
    write_result(problem, 0, timed())
    write_result(problem, 1, timed(batch=41, complete=False))
    found = groups(tmp_path / "simulations")
    assert conditions(found[0][1]) == ["batch of 41", "search cut short"]
    assert not is_sound(found[0][1])


def test_the_target_is_reached_on_three_sound_problems(flat):
    found = flat(timed(20.0), timed(30.0), timed(10.0))
    assert speed_row(found)[1:] == ["at least 10 on 3", "3 of 3: burgers_2d 30; heat_2d 20; wave_2d 10", ""]
    assert " | ".join(speed_row(found)) in targets_table(found)
    found = flat(timed(20.0), timed(30.0), timed(9.9))
    assert speed_row(found)[2:] == ["2 of 3: burgers_2d 30; heat_2d 20", "the target as a whole"]


def test_the_speed_up_with_members_is_counted_beside_that_of_the_mean_alone(flat):
    found = flat(timed(members=1.5), timed(0.5, members=0.01), timed(2.0, members=None))
    text = speed_sentence(found)
    assert "It is slower than the solver on 1:" in text
    assert "With all its members, which errors and intervals rest on, the speed-up is above 1 on 1 of 2" in text
    assert "and 1.5 at most." in text
    assert "members" not in speed_sentence(flat(timed(), timed(), timed()))


def test_a_speed_up_without_skill_is_not_quoted(flat):
    one = timed(members=2.0)
    one["metrics"]["baselines"]["climatology"] = {"relative_l2": 0.005}
    found = flat(one)
    assert speed_up(found[0][1]) is None
    assert speed_sentence(found) == ""
    assert speed_row(found)[2:] == ["0 of 1", "the target as a whole"]


def test_threads_and_machines_are_those_of_the_results(flat):
    found = flat(timed(), timed(), timed())
    assert on_what(found[0][1]) == "on one thread of one machine"
    assert "Measured on one thread of one machine, solver and rollouts side by side." in speed_sentence(found)
    assert (
        machines_sentence(found) == "Measured, with the number of problems in brackets, on one thread of Some CPU (3)."
    )
    found = flat(timed(), timed(processor="Other CPU"), timed(threads=4))
    assert "measured on one thread or 4 threads of different machines" in speed_row(found)[0]
    found = flat(timed(20.0), timed(0.5, processor="Other CPU"), timed(0.5, threads=4))
    assert speed_row(found)[0].endswith("those that reach it measured on one thread of one machine")
    found = flat(timed(), timed(processor="Other CPU"), timed(threads=4))
    names = {"heat_2d": "one thread of Some CPU", "burgers_2d": "Other CPU", "wave_2d": "4 threads of Some CPU"}
    assert all(f"{where} (1)" in machines_sentence(found) for where in names.values())
    assert machines_sentence([]) == ""


def test_a_machine_on_which_a_baseline_was_added_later_is_named(flat):
    one = timed()
    one["added"] = [{**timed(processor="Later CPU"), "command": "romvae benchmark heat_2d --seeds 0"}]
    assert "on one thread of Some CPU (1), Later CPU (1)." in machines_sentence(flat(one))


def test_the_error_to_reach_is_that_of_the_mean_alone_on_what_was_timed(flat):
    one, other = timed(trajectories=4), timed(trajectories=12)
    one["metrics"]["cost"]["rom"]["mean"]["relative_l2"] = 0.03
    found = flat(one, other)
    cells = row(rollout_table(found), "problem")
    assert row(rollout_table(found), "heat_2d")[cells.index("error to reach")] == "3 %"  # 1 % over all, with members
    assert "were 4 to 12 held-out trajectories" in timed_sentence(found)
    assert "were 4 held-out trajectories" in timed_sentence([g for g in found if g[0].name == "heat_2d"])
    assert timed_sentence(flat(timed(), timed())) == ""
