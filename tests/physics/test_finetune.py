"""End-to-end fine-tuning: it lowers what it is asked to, changes what it may, and is continued to the bit."""

from __future__ import annotations

import pytest
import torch

import romvae
from romvae.errors import ConfigError, TrainingStoppedError
from romvae.physics import residual_of
from romvae.solvers import simulate
from romvae.training.finetune import FieldWindows
from romvae.training.session import Session

SHORT = {"vae_steps": 40, "variance_steps": 4, "dynamics_steps": 10, "batch_size": 32, "threads": 1}


@pytest.fixture(scope="module")
def parts():
    return romvae.split(simulate("heat_1d", 16, seed=0, workers=1).isel(time=slice(0, 21)), seed=0)


@pytest.fixture(scope="module")
def trained(parts):
    return fitted(parts)


def fitted(parts, **training):
    rom = romvae.ROM.for_data(parts.train, latent=4, channels=4, hidden=8, members=2)
    return rom, romvae.fit(rom, parts, **SHORT, **training)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def rate(fields, grid, parameters, dt):
    """The change of the mean: what heat without flux through the walls has none of."""
    return (fields["u"][:, 2] - fields["u"][:, 0]).mean(-1) / dt


@pytest.mark.parametrize(
    "choices",
    [
        {"finetune": "crps"},
        pytest.param({"finetune": "likelihood", "finetune_decoder": True}, marks=pytest.mark.slow),
        pytest.param({"physics": "residual"}, marks=pytest.mark.slow),
        pytest.param({"physics": "conserved", "finetune": "mse"}, marks=pytest.mark.slow),
        pytest.param({"physics": rate}, marks=pytest.mark.slow),
    ],
    ids=["crps", "likelihood", "residual", "conserved", "own"],
)
def test_only_what_may_change_changes_and_the_result_is_judged(parts, trained, choices):
    before, _ = trained
    rom, history = fitted(parts, **choices, finetune_steps=6)
    notes = history.notes["finetune"]
    assert torch.equal(weights(rom.vae.encoder), weights(before.vae.encoder))
    same_decoder = torch.equal(weights(rom.vae.decoder.mean), weights(before.vae.decoder.mean))
    assert same_decoder or (choices.get("finetune_decoder") and notes["kept"])
    changed = not torch.equal(weights(rom.dynamics), weights(before.dynamics))
    assert changed == notes["kept"]
    assert (
        torch.equal(rom.dynamics.std, before.dynamics.std) != notes["kept"]
    )  # the error of one step is that of the new
    assert notes["kept"] == (
        notes["after"]["crps"] <= (1.02 if "physics" in choices else 1.0) * notes["before"]["crps"]
    )
    assert len(history.curves["finetune"]["loss"]) == 6


def test_dynamics_that_turns_out_closed_is_not_fine_tuned(parts, monkeypatch):
    monkeypatch.setattr("romvae.training.selection.CANDIDATES", ("linear",))
    rom = romvae.ROM.for_data(parts.train, latent=4, channels=4, members=2, dynamics="auto")
    history = romvae.fit(rom, parts, **SHORT, finetune="crps", finetune_steps=6)
    assert rom.choices["dynamics"] == "linear"
    assert not history.notes["finetune"]["kept"]
    assert "no weights" in history.notes["finetune"]["reason"]


@pytest.mark.parametrize(
    ("physics", "reason"),
    [("conserved", "conserves nothing"), (lambda fields, grid, parameters, dt: 1.0, "the residual gave float")],
)
def test_physics_that_cannot_be_is_refused_before_anything_is_trained(physics, reason):
    parts = romvae.split(simulate("allen_cahn_1d", 8, seed=0, workers=1).isel(time=slice(0, 6)), seed=0)
    rom = romvae.ROM.for_data(parts.train, latent=2, channels=4, hidden=8, members=2)
    seen = []
    with pytest.raises(ConfigError, match=reason):
        romvae.fit(rom, parts, **SHORT, physics=physics, progress=lambda *told: seen.append(told))
    assert not seen


def test_without_it_there_is_no_such_stage(trained):
    _, history = trained
    assert "finetune" not in history.curves
    assert "finetune" not in history.seconds


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_bit(parts, tmp_path, monkeypatch):
    choices = {"finetune": "crps", "physics": "residual", "finetune_steps": 6}
    straight, _ = fitted(parts, **choices)
    original = Session.save

    def stop_within(self, stage, step, model, optimiser):
        original(self, stage, step, model, optimiser)
        if stage == "finetune" and step == 3:
            raise TrainingStoppedError(15, self.path)

    state = tmp_path / "state"
    with monkeypatch.context() as patch:
        patch.setattr(Session, "save", stop_within)
        with pytest.raises(TrainingStoppedError):
            fitted(parts, **choices, checkpoint=state, checkpoint_every=0.0)
    again, history = fitted(parts, **choices, checkpoint=state, checkpoint_every=1e9)
    assert torch.equal(weights(again.dynamics), weights(straight.dynamics))
    assert len(history.curves["finetune"]["loss"]) == 6


def test_windows_grow_and_stay_within_the_trajectory():
    x = torch.arange(3 * 13).float().reshape(3, 13, 1, 1)
    windows = FieldWindows(x, torch.zeros(3, 0), torch.zeros(3, 0), 2, 4, 5, 8, 2, 9, 10, 0, triples=True)
    assert [windows.longest(k) for k in (0, 2, 9)] == [2, 6, 12]
    for k in range(10):
        batch = next(
            iter(FieldWindows(x, torch.zeros(3, 0), torch.zeros(3, 0), 2, 4, 5, 8, 2, 9, 10, 0, k, triples=True))
        )
        leads = batch["leads"]
        assert int(leads.max()) == windows.longest(k)
        assert torch.equal(leads.reshape(2, 3).diff(dim=1), torch.ones(2, 2, dtype=torch.long))
        # Fields are numbered by time, so that a target less its start is its lead.
        assert torch.equal((batch["target"] - batch["x0"])[..., 0, 0].T, leads.float().expand(8, 6))
        assert batch["noise"].shape == (2, 2 * 8, 5)


def test_a_law_that_forecasts_fulfil_exactly_is_left_out_of_the_penalty(parts, caplog):
    lawful, history = fitted(parts, finetune="crps", finetune_steps=4, physics=lambda u, *_: 0 * u["u"])
    assert history.notes["finetune"]["physics_scale"] == [0.0]
    assert "fulfil equation 1 exactly" in caplog.text
    assert torch.isfinite(weights(lawful.dynamics)).all()


@pytest.mark.slow
def test_a_residual_is_pushed_down(parts):
    # Four latents of a short training: with a large weight the residual of forecasts falls, whatever the score does.
    _, history = fitted(parts, physics=residual_of(parts.train), physics_weight=10.0, finetune_steps=25)
    notes = history.notes["finetune"]
    assert notes["physics_after"][0] < notes["physics_scale"][0]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"finetune": "energy"}, "finetune is 'energy', expected none, crps, likelihood or mse"),
        ({"physics": "laws"}, "physics is 'laws', expected none, residual, conserved or a function"),
        ({"finetune": "crps", "finetune_members": 0}, "finetune_members is 0, expected 1 or more"),
        ({"physics": "residual", "physics_weight": 0.0}, "physics_weight is 0.0, expected a positive number"),
        ({"physics": lambda *a: None}, "the residual gave NoneType, expected a tensor"),
        ({"physics": lambda u, *_: u["u"] / 0.0}, r"first training fields is \[(inf|nan)\], expected finite numbers"),
    ],
)
def test_mistakes_are_named(parts, choices, words):
    with pytest.raises(ConfigError, match=words):
        fitted(parts, **choices)


def test_closed_forms_have_nothing_to_fine_tune(parts):
    rom = romvae.ROM.for_data(parts.train, latent=4, channels=4, dynamics="linear")
    with pytest.raises(ConfigError, match="known in closed form and has no weights"):
        romvae.fit(rom, parts, **SHORT, finetune="crps")
