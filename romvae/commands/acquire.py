"""`romvae acquire`: which simulations to run next, as a loop with the case's solver or one round at a time."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from romvae.commands.options import Config, Out, Quiet
from romvae.errors import ConfigError, TrainingStoppedError
from romvae.lock import locked
from romvae.progress import terminal_progress
from romvae.settings import TrainSettings
from romvae.settings_file import load_settings

if TYPE_CHECKING:
    import xarray as xr

    from romvae.campaign import Campaign
    from romvae.campaign_plan import Plan

__all__ = ["acquire"]


def acquire(
    case: str | None = None,
    /,
    *,
    out: Out,
    budget: int | None = None,
    initial: int | None = None,
    batch: int | None = None,
    candidates: int | None = None,
    data: Path | None = None,
    starts: Path | None = None,
    config: Config = None,
    settings: Annotated[TrainSettings | None, Parameter(name="*")] = None,
    quiet: Quiet = False,
) -> None:
    """Choose which simulations to run next by the disagreement of the ROM's networks.

    With CASE: simulate, train, choose, simulate the choice, train again, until the budget is spent. The same command
    goes on after an interruption; a larger --budget goes on after the end. --budget, --initial and --candidates go
    with CASE only.

    For a solver that runs elsewhere: --data takes simulations in (the first ones, later those that were asked for), a
    ROM is trained on all of them, and the next ones are written to OUT/rounds/NNN/next.yaml, next.csv and asked.h5,
    chosen from those initial fields and parameters in --starts that were neither simulated nor asked for. The same
    command goes on after an interruption: simulations that were taken in already are recognised.

    Settings that are left out are those that the campaign was begun with.

    Arguments:
        case: name of a built-in case, whose solver is called.
        out: folder of the campaign.
        budget: simulations in all, those for variance, calibration and test included.
        initial: simulations at random to begin with, at least 8; 16 where it is left out.
        batch: simulations per round; 4 where it is left out.
        candidates: starts that a round chooses from; 256 where it is left out.
        data: store of simulations that were made elsewhere.
        starts: store whose first snapshots are the candidates, for simulations that are made elsewhere.
        settings: settings of model and training, as in romvae train; the seed is that of the simulations too.
    """
    if (case is None) == (data is None):
        raise ConfigError("Give either CASE, or --data with simulations that were made elsewhere.")
    if data is not None and starts is None:
        raise ConfigError("--starts is missing. Give the store whose first snapshots are the candidates.")
    if case is not None and starts is not None:
        raise ConfigError("--starts: goes with --data; with CASE the candidates are draws of the case. Leave it out.")
    _refuse_beside(data, {"budget": budget, "initial": initial, "candidates": candidates})
    chosen = load_settings(TrainSettings, config, settings.model_dump(exclude_unset=True) if settings else {})
    _require_disagreement(chosen)
    if case is not None:
        from romvae.campaign_cases import campaign_case

        campaign_case(case)  # refuses what cannot be simulated here, before anything is written
    sizes = {"budget": budget, "initial": initial, "batch": batch, "candidates": candidates}
    plan = _plan(out, case, {name: value for name, value in sizes.items() if value is not None}, chosen)
    from romvae.campaign import Campaign
    from romvae.data import open_snapshots

    with terminal_progress(quiet) as progress:
        campaign = Campaign.open(out, plan, progress)
        new = beginnings = None
        if data is not None and starts is not None:  # all that can be wrong with them, before anything is written
            new, beginnings = open_snapshots(data).load(), open_snapshots(starts).isel(time=slice(0, 1)).load()
            campaign.holds(new, str(data))
            campaign.unknown(beginnings, plan.batch, new, str(starts))
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            if new is None or beginnings is None:
                _continuable(campaign.run)
            else:
                _round(campaign, new, beginnings, str(data))
    if data is None:
        print(f"{out}: {campaign.data().sizes['trajectory']} simulations, model in {campaign.model}")
    else:
        print(f"{campaign.round() / 'next.yaml'}: {plan.batch} simulations to run next")
        print(f"Then: romvae acquire --data NEW.h5 --starts {shlex.quote(str(starts))} --out {shlex.quote(str(out))}")


def _plan(out: Path, case: str | None, sizes: dict[str, int], chosen: TrainSettings) -> Plan:
    """The plan of the campaign in a folder, to which what was given has to fit, or a new one."""
    from romvae.campaign_plan import Plan

    kept = Plan.read(out)
    if kept is not None:
        told = chosen.model_dump(exclude_unset=True)
        given: dict[str, Any] = {name: told[name] for name in ("seed", "model", "training") if name in told}
        for section, other in (("model", "kind"), ("training", "budget")):  # of other models than the ROM
            given.get(section, {}).pop(other, None)
        return kept.continued({"case": case, **sizes, **given}, out)
    if case is not None and "budget" not in sizes:
        raise ConfigError("--budget is missing. Give the number of simulations in all, such as --budget 40.")
    budget = sizes.get("budget", Plan.initial)
    return Plan(
        case,
        **{**sizes, "budget": budget},
        seed=chosen.seed,
        model=chosen.model.chosen(),
        training=chosen.training.chosen(),
    )


def _refuse_beside(data: Path | None, sizes: dict[str, int | None]) -> None:
    """Refuses sizes of a campaign that calls a solver where simulations are made elsewhere."""
    given = [f"--{name}" for name, value in sizes.items() if value is not None]
    if data is not None and given:
        raise ConfigError(
            f"{', '.join(given)}: go with CASE, not with --data, where a round is what --data takes in and --batch "
            "asks for, and the candidates are those of --starts. Leave them out."
        )


def _require_disagreement(chosen: TrainSettings) -> None:
    """Refuses models that cannot say what they do not know, before anything is trained."""
    model = chosen.model
    if model.kind != "vae":
        raise ConfigError(
            f"model.kind = {model.kind}: acquire asks where the networks of a ROM disagree, which other models do not "
            "have. Leave it out or use --model vae; --model.compression pod puts POD in the place of the autoencoder."
        )
    if model.members < 2:
        raise ConfigError(
            f"model.members = {model.members}: acquire needs at least 2 networks that can disagree. Leave it out, or "
            "use --model.members 4."
        )
    if model.latent == "auto":
        raise ConfigError("model.latent = auto: goes with romvae train only. Give acquire a number, or leave it out.")


def _round(campaign: Campaign, new: xr.Dataset, starts: xr.Dataset, source: str) -> None:
    """Takes data in, trains and asks."""
    if not campaign.add(new, source):
        print(f"{source}: was taken in already; going on with {campaign.round()}")
    rom = _continuable(campaign.train)
    campaign.ask(rom, starts, campaign.plan.batch)


def _continuable(work: Any) -> Any:
    """What work returns; where it is stopped, how to go on is said."""
    try:
        return work()
    except BaseException as error:
        if isinstance(error, TrainingStoppedError) or not isinstance(error, Exception):
            print("Continue with the same command.", file=sys.stderr)
        raise
