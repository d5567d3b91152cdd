"""Campaigns: what is known is recognised, what was said stays said, and a stop changes no draw."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from romvae import ROM, acquisition, cli, fit, split, write_snapshots
from romvae import campaign as module
from romvae.campaign import Campaign
from romvae.campaign_plan import PLAN, Plan
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.schema import Schema
from romvae.simulated import are_among, fingerprints, starts_of
from romvae.solvers import Case
from romvae.testing import mock_snapshots

FEW = {"latent": 4, "members": 2, "compression": "pod", "dynamics": "linear"}
WORDS = ["--model.latent", "4", "--model.members", "2", "--model.compression", "pod", "--model.dynamics", "linear"]
WORDS += ["--training.variance-steps", "2", "--training.threads", "1", "--batch", "2", "--quiet"]


@pytest.fixture(scope="module")
def pool():
    """24 trajectories with a parameter and initial fields of their own."""
    return mock_snapshots(trajectories=24, times=6)


@pytest.fixture
def folder(pool, tmp_path):
    """The first ten, and the first snapshots of all: `first.h5`, `starts.h5`."""
    write_snapshots(pool.isel(trajectory=slice(0, 10)), tmp_path / "first.h5")
    write_snapshots(pool.isel(time=slice(0, 1)), tmp_path / "starts.h5")
    return tmp_path


@pytest.fixture(scope="module")
def rom(pool):
    parts = split(pool, seed=0)
    rom = ROM.for_data(parts.train, **FEW)
    fit(rom, parts, variance_steps=2, threads=1)
    return rom


def call(folder, *words, data="first.h5", starts="starts.h5"):
    places = ["--data", str(folder / data), "--starts", str(folder / starts), "--out", str(folder / "c")]
    return cli.main(["acquire", *places, *words])


def test_the_same_command_goes_on_and_takes_nothing_in_twice(folder, pool, monkeypatch, capsys):
    states = []

    def stopped(rom, parts, **told):
        def stop(*args):
            if len(list(told["checkpoint"].parent.glob("training.state"))):
                raise KeyboardInterrupt

        return fit(rom, parts, checkpoint_every=0.0, **{**told, "progress": stop})

    def going_on(rom, parts, **told):
        states.append(told["checkpoint"].exists())
        return fit(rom, parts, **told)

    monkeypatch.setattr(module, "fit", stopped)
    assert call(folder, *WORDS) == 130
    assert "Continue with the same command" in capsys.readouterr().err
    before = Campaign.open(folder / "c").data()
    monkeypatch.setattr(module, "fit", going_on)
    assert call(folder, *WORDS) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "first.h5: was taken in already; going on with" in out
    campaign = Campaign.open(folder / "c")
    assert campaign.data().equals(before)  # no trajectory twice, none of them in another part
    assert states == [True]
    asked = (campaign.round(0) / "next.yaml").read_bytes()
    assert call(folder, *WORDS) == 0  # a third time: nothing is trained, and the same is asked
    assert len(states) == 1
    assert (campaign.round(0) / "next.yaml").read_bytes() == asked

    numbers = [row["trajectory"] for row in yaml.safe_load(asked)["next"]]
    assert set(numbers) <= set(range(10, 24))
    write_snapshots(pool.sel(trajectory=numbers), folder / "new.h5")
    assert "Then: romvae acquire --data NEW.h5 --starts" in out
    assert call(folder, "--quiet", data="new.h5") == 0, capsys.readouterr().err  # without the settings, as printed
    rows = yaml.safe_load((campaign.round(1) / "next.yaml").read_text())["next"]
    assert len(rows) == 2
    assert {row["trajectory"] for row in rows}.isdisjoint({*range(10), *numbers})
    assert call(folder, "--quiet") == 0  # the first command of all, later: nothing is taken in
    assert campaign.data().sizes["trajectory"] == 12


def test_what_is_repeated_in_part_is_refused(pool, tmp_path):
    campaign = Campaign.open(tmp_path, Plan(None, 16))
    campaign.add(pool.isel(trajectory=slice(0, 10)))
    with pytest.raises(DataError, match=r"more\.h5: 2 of 4 trajectories were taken in already"):
        campaign.add(pool.isel(trajectory=slice(8, 12)), "more.h5")
    with pytest.raises(DataError, match="10 of 11"):
        campaign.add(pool.isel(trajectory=slice(0, 11)))
    with pytest.raises(DataError, match="3 of 3"):
        campaign.add(pool.isel(trajectory=slice(0, 3)))
    with pytest.raises(SchemaError, match=r"has 4 times from 0 to 0\.3, expected the 6 from 0 to 0\.5"):
        campaign.add(pool.isel(trajectory=slice(10, 12), time=slice(0, 4)))
    assert not campaign.add(pool.isel(trajectory=slice(9, None, -1)).astype(float))
    assert len(campaign.stores) == 1
    later = pool.isel(trajectory=slice(10, 12))
    assert campaign.add(later.assign_coords(time=later["time"] * (1 + 1e-12)))
    assert campaign.data().sizes == {"trajectory": 12, "time": 6, "x": pool.sizes["x"]}


@pytest.mark.parametrize(
    ("starts", "code", "message"),
    [
        ("none.h5", 3, "none.h5: does not exist"),
        ("coarse.h5", 3, "coarse.h5: "),
        ("few.h5", 2, "few.h5: 1 of 11 were neither simulated nor asked for yet, expected at least the 2 of a round"),
    ],
)
def test_wrong_starts_change_nothing(folder, pool, starts, code, message, capsys):
    write_snapshots(pool.isel(time=slice(0, 1), x=slice(0, None, 2)), folder / "coarse.h5")
    write_snapshots(pool.isel(time=slice(0, 1), trajectory=slice(0, 11)), folder / "few.h5")
    assert call(folder, *WORDS, starts=starts) == code
    assert message in capsys.readouterr().err
    assert not (folder / "c").exists()


def test_what_was_asked_is_not_asked_again_and_counts_as_known(pool, rom, tmp_path, monkeypatch):
    seen = []

    def watched(rom, candidates, n, **told):
        seen.append(told["known"])
        return acquisition.acquire(rom, candidates, n, **told)

    monkeypatch.setattr(module, "acquire", watched)
    campaign = Campaign.open(tmp_path, Plan(None, 16))
    campaign.add(pool.isel(trajectory=slice(0, 10)))
    starts = pool.isel(time=slice(0, 1))
    first = campaign.ask(rom, starts, 4)
    train = campaign.data().isel(time=0)
    train = train.isel(trajectory=train["split"] == 0)
    np.testing.assert_array_equal(seen[0]["viscosity"], train["viscosity"])
    assert campaign.ask(rom, starts, 4).equals(first)  # asked once
    assert len(seen) == 1
    with pytest.raises(ConfigError, match=r"asks for 4 simulations already, 4 of which are not among these starts"):
        campaign.ask(rom, starts.isel(trajectory=slice(0, 2)), 2)

    numbers = first["trajectory"].values.tolist()
    campaign.add(pool.sel(trajectory=numbers[:2]))  # two of the four are given
    second = campaign.ask(rom, starts, 4)
    assert set(second["trajectory"].values.tolist()).isdisjoint({*range(10), *numbers})
    expected = [*train["viscosity"].values, *pool["viscosity"].sel(trajectory=numbers).values]
    np.testing.assert_array_equal(np.sort(seen[1]["viscosity"]), np.sort(expected))
    with pytest.raises(ConfigError, match=r"10 of 24 were neither .* yet, expected at least the 11"):
        campaign.unknown(starts, 11)
    with pytest.raises(ConfigError, match=r"The case repeats its draws; lower --budget\."):  # it has no starts to give
        Campaign(tmp_path, Plan("heat_1d", 16)).unknown(starts, 11)


def test_trajectories_and_starts_are_known_by_content(pool):
    schema = Schema.of(pool)
    prints = fingerprints(pool, schema)
    assert len(set(prints)) == 24
    other = pool.isel(trajectory=slice(None, None, -1)).transpose("x", "time", "trajectory").astype(float)
    assert fingerprints(other.assign_coords(trajectory=np.arange(24)), schema) == prints[::-1]
    starts, known = starts_of(pool, schema), starts_of(pool.isel(trajectory=[3, 5]), schema)
    assert np.flatnonzero(are_among(starts, known * (1 + 1e-7), schema)).tolist() == [3, 5]
    assert not are_among(starts, known * 1.001, schema).any()
    assert not are_among(starts, known.assign_coords(viscosity=1.001 * known["viscosity"]), schema).any()
    assert not are_among(starts, known.isel(trajectory=[]), schema).any()


def test_a_stop_and_a_larger_budget_change_no_draw(tmp_path, monkeypatch):
    """A round chooses from as many new draws as the one before it, however many rounds there are.

    Networks as they were initialised disagree too, and depend on the data by their normaliser.
    """
    monkeypatch.setattr(module, "fit", lambda rom, parts, **told: None)
    told = {"seed": 1, "model": {"latent": 4, "members": 2, "channels": 4, "hidden": 8}}
    sizes = {"initial": 10, "batch": 2, "candidates": 3}
    whole = Campaign.open(tmp_path / "whole", Plan("heat_1d", 14, **sizes, **told))
    whole.run()
    numbers = whole.data()["trajectory"].values
    assert numbers[:10].tolist() == list(range(10))
    assert len(set(numbers)) == 14  # two rounds of two, from three candidates each
    assert numbers.max() < 10 + 2 + 3  # those that the first round left, and as many new ones as it took

    Campaign.open(tmp_path / "part", Plan("heat_1d", 12, **sizes, **told)).run()
    later = Plan("heat_1d", 14, **sizes, **told)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "simulated_draws", stop)
        with pytest.raises(KeyboardInterrupt):
            Campaign.open(tmp_path / "part", later).run()
    part = Campaign.open(tmp_path / "part", later)
    part.run()
    assert part.data().identical(whole.data())


@pytest.mark.parametrize("case", ["cylinder_flow_2d", "channel_transport_2d"])
def test_a_case_with_an_obstacle_is_refused_before_anything_is_drawn_or_written(case, tmp_path, monkeypatch, capsys):
    def forbidden(*args):
        raise AssertionError("should not have been called")

    monkeypatch.setattr(Case, "draw", forbidden)
    assert cli.main(["acquire", case, "--budget", "20", "--out", str(tmp_path / "c")]) == 2
    assert f"case {case} has an obstacle, which campaigns do not know. Use romvae simulate" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="has an obstacle"):
        Campaign.open(tmp_path / "c", Plan(case, 20)).run()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("flags", [["--budget"], ["--initial"], ["--candidates"], ["--budget", "--initial"]])
def test_sizes_that_play_no_part_beside_data_are_refused(folder, flags, capsys):
    words = [word for flag in flags for word in (flag, "12")]
    assert call(folder, *WORDS, *words) == 2
    assert f"{', '.join(flags)}: go with CASE, not with --data" in capsys.readouterr().err
    assert cli.main(["acquire", "heat_1d", "--budget", "12", "--starts", "s.h5", "--out", str(folder / "c")]) == 2
    assert "--starts: goes with --data" in capsys.readouterr().err
    assert not (folder / "c").exists()


def test_a_round_of_simulations_made_elsewhere_is_bounded_by_the_starts_only():
    assert Plan(None, 16, batch=300).batch == 300
    with pytest.raises(ConfigError, match=r"acquire: batch 0; expected 1 or more\. Correct it"):
        Plan(None, 16, batch=0)
    with pytest.raises(ConfigError, match=r"batch 300, budget 16, candidates 256; .* candidates of at least batch"):
        Plan("heat_1d", 16, batch=300)


def test_settings_that_are_left_out_come_from_the_campaign(tmp_path, capsys):
    """The file is one of the version that did not ask what was given."""
    kept = {"case": None, "budget": 16, "initial": 16, "batch": 2, "candidates": 256, "seed": 3}
    kept |= {"model": {"latent": 4, "members": 2, "compression": "pod"}, "training": {"threads": 1}}
    (tmp_path / PLAN).write_text(json.dumps(kept))
    plan = Plan.read(tmp_path)
    assert plan == Plan(**kept) == Campaign.open(tmp_path).plan
    given = {"seed": 3, "model": {"latent": 4, "blocks": None, "dynamics": "residual"}, "budget": 20}
    assert plan.continued(given, tmp_path) == Plan(**{**kept, "budget": 20})
    with pytest.raises(ConfigError, match=r"batch is 2, not 4, model\.latent is 4, not left out, model\.mem"):
        Campaign.open(tmp_path, Plan(None, 16, seed=3, model={"compression": "pod"}, training={"threads": 1}))
    words = ["acquire", "--data", "none.h5", "--starts", "none.h5", "--out", str(tmp_path)]
    assert cli.main([*words, "--batch", "3", "--model.latent", "5", "--training.threads", "1"]) == 2
    said = capsys.readouterr().err
    assert "other settings than these: batch is 2, not 3, model.latent is 4, not 5. Leave them out" in said
    assert cli.main(["acquire", "heat_1d", "--out", str(tmp_path)]) == 2
    assert "case is left out, not heat_1d" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "seed"), [([], 7), (["--seed", "3"], 3)])
def test_the_seed_of_the_file_counts_below_that_of_the_command(tmp_path, monkeypatch, words, seed):
    plans = []

    def run(campaign):
        plans.append(campaign.plan)
        raise SystemExit(0)

    monkeypatch.setattr(Campaign, "run", run)
    (tmp_path / "settings.yaml").write_text("seed: 7\nmodel: {latent: 5}\n")
    told = ["--config", str(tmp_path / "settings.yaml"), "--budget", "20", "--out", str(tmp_path / "c"), *words]
    assert cli.main(["acquire", "heat_1d", *told]) == 0
    assert (plans[0].seed, plans[0].model["latent"]) == (seed, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: auto", "model.kind = auto: acquire asks where the networks of a ROM disagree"),
        ("model: {kind: pod_rbf}", "model.kind = pod_rbf: acquire asks"),
        ("model: {members: 1}", "model.members = 1: acquire needs at least 2 networks"),
        ("model: {latent: auto}", "model.latent = auto: goes with romvae train only"),
    ],
)
def test_models_that_cannot_disagree_are_refused_before_anything_is_done(tmp_path, text, message, capsys):
    (tmp_path / "settings.yaml").write_text(text)
    told = ["--config", str(tmp_path / "settings.yaml"), "--budget", "20", "--out", str(tmp_path / "c")]
    assert cli.main(["acquire", "heat_1d", *told]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
