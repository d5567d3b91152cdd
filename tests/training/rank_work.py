"""What two processes do together for `test_ranks`; the results of the first one go to a file."""

from __future__ import annotations

import importlib.util
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import torch

from romvae.data import split
from romvae.errors import TrainingStoppedError
from romvae.latent.bound import HeldOutBound
from romvae.ranks import ALONE, Ranks, join
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit
from romvae.training.session import History

STEPS = {"vae_steps": 5, "variance_steps": 3, "dynamics_steps": 5, "batch_size": 5}
"""Five samples do not divide by two: the shares are of unequal size."""

PRIOR = "flow" if importlib.util.find_spec("zuko") else "normal"

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "residual": ({}, {"ema": 0.9, "patience": 9, "finetune": "crps", "finetune_steps": 3, "finetune_decoder": True}),
    "gru": (
        {"dropout": 0.2, "variance": "beta_nll", "dynamics": "gru", "transition": "gaussian"},
        {"samples": 2, "objective": "free_bits", "consistency": 0.1, "patience": 9},
    ),
    "full": (
        {"variance": "faithful", "posterior": "full", "prior": PRIOR},
        {"objective": "capacity", "latent_consistency": 0.1, "finetune": "likelihood", "finetune_steps": 2},
    ),
    "student": (
        {"variance": "student_t", "compression": "dae", "prior": "mixture", "dynamics": "transformer"},
        {"physics": "conserved_mean", "finetune": "mse", "finetune_steps": 2},
    ),
}


def mean_is_kept(fields, grid, parameters, dt):
    """A residual of one's own: the mean over the grid does not change."""
    u = fields["u"].flatten(2).mean(-1)
    return u[:, 1:] - u[:, :-1]


def trained(case: str, checkpoint: Path | None = None, stop_at: int | None = None, **settings) -> tuple[ROM, History]:
    """Trains one case in double precision; `stop_at` sends this process a SIGTERM at that call of the progress."""
    kinds, told = CASES[case]
    told = {**told, **settings}
    if told.get("physics") == "conserved_mean":
        told["physics"] = mean_is_kept
    parts = split(mock_snapshots(1, trajectories=12, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2, **kinds)
    calls = 0

    def progress(*args) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(rom, parts, progress=progress, checkpoint=checkpoint, checkpoint_every=0.0, **{**STEPS, **told})
    return rom, history


def held_out(rom: ROM, ranks: Ranks = ALONE) -> HeldOutBound:
    """The bound on 7 snapshots."""
    generator = torch.Generator().manual_seed(0)
    bound = HeldOutBound()
    for size in (5, 1, 1):
        bound.add(rom.vae, torch.randn(size, *_field(rom), generator=generator), generator, ranks)
    return bound.merged(ranks)


def _field(rom: ROM) -> tuple[int, ...]:
    layout = rom.vae.encoder.layout
    return (layout.fields, *layout.shape)


def work(rank: int, port: int, folder: Path) -> None:
    """All that two processes are asked to do."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    found: dict[str, Any] = {}
    for case in CASES:
        rom, history = trained(case, devices=2)
        found[case] = {"state": rom.state_dict(), "curves": history.curves, "notes": history.notes}
        if case == "residual":
            from romvae.launch import place_of

            ranks = join(place_of(2, None))
            found["bound"] = vars(held_out(rom, ranks))
            same = ranks.gathered({name: value.clone() for name, value in rom.state_dict().items()})
            found["same"] = all(torch.equal(same[0][name], same[1][name]) for name in same[0])
            found["files"] = ranks.gathered(str(_written(folder, rank)))
    for begun, step in (("by_two", 2), ("again", 2)):
        state = folder / begun
        # The progress is the first process's only: the signal comes to one of them, and both stop.
        try:
            trained("residual", state, step, devices=2)
            found[begun] = "was not stopped"
        except TrainingStoppedError as error:
            found[begun] = str(error)
    rom, history = trained("residual", folder / "again", devices=2)
    found["again_state"], found["again_curves"] = rom.state_dict(), history.curves
    rom, history = trained("residual", folder / "by_one", devices=2)
    found["by_one_state"], found["by_one_curves"] = rom.state_dict(), history.curves
    try:
        trained("residual", devices=2, batch_size=1)
    except Exception as error:
        found["too_small"] = str(error)
    if rank == 0:
        torch.save(found, folder / "found.pt")


def _written(folder: Path, rank: int) -> bool:
    """Whether this process writes its state where it is told to have one of its own."""
    own = folder / f"own-{rank}"
    trained("residual", own, devices=2, vae_steps=1, variance_steps=1, dynamics_steps=1, finetune_steps=1)
    return own.exists()
