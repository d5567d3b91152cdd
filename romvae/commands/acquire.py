"""`romvae acquire`: which simulations to run next, as a loop with the case's solver or one round at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from romvae.commands.options import Config, Out, Quiet, Seed
from romvae.errors import ConfigError
from romvae.lock import locked
from romvae.progress import terminal_progress
from romvae.settings import TrainSettings
from romvae.settings_file import load_settings

if TYPE_CHECKING:
    from romvae.campaign import Campaign, Plan

__all__ = ["acquire"]


def acquire(
    case: str | None = None,
    /,
    *,
    out: Out,
    budget: int | None = None,
    initial: int = 16,
    batch: int = 4,
    candidates: int = 256,
    data: Path | None = None,
    starts: Path | None = None,
    seed: Seed = 0,
    config: Config = None,
    settings: Annotated[TrainSettings | None, Parameter(name="*")] = None,
    quiet: Quiet = False,
) -> None:
    """Choose which simulations to run next by the disagreement of the ROM's networks.

    With CASE: simulate, train, choose, simulate the choice, train again, until the budget is spent. The same command
    goes on after an interruption; a larger --budget goes on after the end.

    For a solver that runs elsewhere: --data takes simulations in (the first ones, later those that were asked for), a
    ROM is trained on all of them, and the next ones are written to OUT/rounds/NNN/next.yaml and next.csv, chosen
    from the initial fields and parameters in --starts.

    Arguments:
        case: name of a built-in case, whose solver is called.
        out: folder of the campaign.
        budget: simulations in all, those for variance, calibration and test included.
        initial: simulations at random to begin with, at least 8.
        batch: simulations per round.
        candidates: starts to choose from.
        data: store of simulations that were made elsewhere.
        starts: store whose first snapshots are the candidates, for simulations that are made elsewhere.
        settings: settings of model and training, as in romvae train.
    """
    if (case is None) == (data is None):
        raise ConfigError("Give either CASE, or --data with simulations that were made elsewhere.")
    if case is not None and budget is None:
        raise ConfigError("--budget is missing. Give the number of simulations in all, such as --budget 40.")
    if data is not None and starts is None:
        raise ConfigError("--starts is missing. Give the store whose first snapshots are the candidates.")
    given = settings.model_dump(exclude_unset=True) if settings else {}
    chosen = load_settings(TrainSettings, config, given)
    from romvae.campaign import Campaign, Plan

    plan = Plan(
        case, budget or initial, initial, batch, candidates, seed, chosen.model.chosen(), chosen.training.chosen()
    )
    with terminal_progress(quiet) as progress:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            campaign = Campaign.open(out, plan, progress)
            if data is None:
                campaign.run()
            else:
                _round(campaign, plan, data, starts)
    if data is None:
        print(f"{out}: {campaign.data().sizes['trajectory']} simulations, model in {campaign.model}")
    else:
        print(f"{campaign.round() / 'next.yaml'}: {batch} simulations to run next")
        print(f"Then: romvae acquire --data NEW.h5 --starts {starts} --out {out}")


def _round(campaign: Campaign, plan: Plan, data: Path, starts: Any) -> None:
    """Takes data in, trains and asks."""
    from romvae.data import open_snapshots

    new = open_snapshots(data).load()
    if campaign.stores:
        campaign.add(new)
    else:
        campaign.begin(new)
    rom = campaign.train()
    candidates = open_snapshots(starts).isel(time=slice(0, 1)).load()
    campaign.ask(rom, candidates, plan.batch)
