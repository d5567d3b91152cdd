"""Acquisition: picks by hand, a planted gap in the data, and a campaign that goes on from what is on disk."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from romvae import ROM, acquire, cli, open_snapshots, write_snapshots
from romvae.acquisition import disagreement, spread_picks
from romvae.campaign import Campaign, Plan
from romvae.errors import CheckpointError, ConfigError, SchemaError

NONE = np.zeros((0, 1))
SMALL = {
    "model": {"latent": 4, "members": 2, "compression": "pod", "dynamics": "linear"},
    "training": {"variance_steps": 2, "threads": 1},
}


def test_picks_are_the_largest_that_earlier_ones_do_not_explain():
    place = np.array([[0.0], [0.01], [5.0], [10.0]])
    score = np.array([2.0, 1.9, 1.0, 1.5])
    assert spread_picks(score, place, 3, NONE).tolist() == [0, 3, 2]  # the neighbour of the first comes last
    assert spread_picks(score, place, 4, NONE).tolist() == [0, 3, 2, 1]


def test_what_is_known_explains_its_neighbours():
    place = np.linspace(0, 10, 11)[:, None]
    assert spread_picks(np.ones(11), place, 1, np.array([[0.0], [2.0]]))[0] >= 5


def test_all_picks_differ_even_where_candidates_agree():
    picks = spread_picks(np.ones(6), np.zeros((6, 2)), 6, np.zeros((0, 2)))
    assert sorted(picks.tolist()) == list(range(6))


def test_acquire_begins_with_the_largest_disagreement(heat):
    starts = heat.parts.calibration.isel(time=0)
    picks = acquire(heat.rom, starts, 3)
    score = disagreement(heat.rom, starts)
    assert float(picks["disagreement"][0]) == float(score.max())
    assert len(set(picks["trajectory"].values.tolist())) == 3
    assert np.allclose(score.sel(trajectory=picks["trajectory"]), picks["disagreement"])


def test_networks_that_agree_have_nothing_to_ask(heat):
    rom = ROM.from_description(heat.rom.description())
    rom.load_state_dict({k: v for k, v in heat.rom.state_dict().items() if not k.startswith("trust.")}, strict=False)
    for name in ("A", "B", "b"):  # the same matrices for all members
        buffer = rom.dynamics.get_buffer(name)
        buffer.copy_(buffer[:, :1].expand_as(buffer))
    assert float(disagreement(rom, heat.parts.test.isel(time=0)).max()) == 0.0


def test_messages(heat):
    starts = heat.parts.test.isel(time=0)
    with pytest.raises(ConfigError, match="n is 9, expected 1 to the 8 candidates"):
        acquire(heat.rom, starts, 9)
    with pytest.raises(ConfigError, match="expected initial of 8 or more"):
        Plan("heat_1d", 20, initial=4)


@pytest.fixture
def plan(heat, monkeypatch):
    monkeypatch.setattr("romvae.campaign_cases.get_case", lambda name: replace(heat.case, name=name))
    return Plan("heat_1d", 14, initial=8, batch=4, candidates=16, **SMALL)


def test_campaign_spends_its_budget_and_goes_on_from_the_disk(plan, tmp_path, monkeypatch):
    known = []

    def watched(rom, candidates, n, **told):
        known.append(told["known"].sizes["trajectory"])
        return acquire(rom, candidates, n, **told)

    monkeypatch.setattr("romvae.campaign.acquire", watched)
    campaign = Campaign.open(tmp_path / "c", plan)
    campaign.run()
    assert known == [4, 8]  # the training part, which grows by what was asked for
    data = campaign.data()
    assert data.sizes["trajectory"] == 14
    assert len(set(data["trajectory"].values.tolist())) == 14
    assert (data["split"].values[8:] == 0).all()
    assert [len(list((campaign.path / "rounds" / f"{k:03d}").glob("next.*"))) for k in range(3)] == [2, 2, 0]
    with (campaign.path / "rounds" / "000" / "next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    text = (campaign.path / "rounds" / "000" / "next.yaml").read_text()
    assert [int(row["trajectory"]) for row in rows] == [row["trajectory"] for row in yaml.safe_load(text)["next"]]
    assert data["trajectory"].values[8:12].tolist() == [int(row["trajectory"]) for row in rows]

    (campaign.path / "data" / "002.h5").unlink()  # as if it had been killed before the second round's data were kept
    shutil.rmtree(campaign.path / "rounds" / "002")
    again = Campaign.open(tmp_path / "c")
    again.run()
    assert again.data().equals(data)
    with pytest.raises(ConfigError, match="holds a campaign with other settings"):
        Campaign.open(tmp_path / "c", replace(plan, batch=2))
    with pytest.raises(CheckpointError, match=r"campaign\.json is missing, so this is no campaign"):
        Campaign.open(tmp_path / "nothing")


def test_simulations_from_elsewhere(heat, tmp_path, capsys):
    parts = heat.parts
    write_snapshots(parts.calibration.isel(trajectory=slice(0, 10)).drop_vars("split"), tmp_path / "first.h5")
    write_snapshots(parts.test.isel(time=slice(0, 1)).drop_vars("split"), tmp_path / "starts.h5")
    words = ["--model.latent", "4", "--model.members", "2", "--model.compression", "pod", "--model.dynamics", "linear"]
    words += ["--training.variance-steps", "2", "--training.threads", "1", "--batch", "2", "--quiet"]
    words += ["--starts", str(tmp_path / "starts.h5"), "--out", str(tmp_path / "c")]
    assert cli.main(["acquire", "--data", str(tmp_path / "first.h5"), *words]) == 0, capsys.readouterr().err
    wanted = yaml.safe_load((tmp_path / "c" / "rounds" / "000" / "next.yaml").read_text())["next"]
    numbers = [row["trajectory"] for row in wanted]
    assert set(numbers) <= set(parts.test["trajectory"].values.tolist())
    write_snapshots(parts.test.sel(trajectory=numbers).drop_vars("split"), tmp_path / "new.h5")
    assert cli.main(["acquire", "--data", str(tmp_path / "new.h5"), *words]) == 0, capsys.readouterr().err
    campaign = Campaign.open(tmp_path / "c")
    assert campaign.data().sizes["trajectory"] == 12
    assert (open_snapshots(campaign.stores[1])["split"] == 0).all()
    assert campaign.model.parent.name == "001"
    with pytest.raises(SchemaError):
        campaign.add(parts.test.isel(x=slice(0, None, 2)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["acquire", "--out", "x"], "Give either CASE, or --data"),
        (["acquire", "heat_1d", "--out", "x"], "--budget is missing"),
        (["acquire", "--data", "y", "--out", "x"], "--starts is missing"),
        (["acquire", "heat_1d", "--out", "x", "--budget", "4"], "a budget of at least initial"),
    ],
)
def test_command_says_what_is_missing(words, message, capsys):
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
