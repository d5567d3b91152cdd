"""The whole scoreboard: faults, inputs, exactness, fuzzing."""

from __future__ import annotations

import gc
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from romvae.errors import ConfigError
from romvae.selfcheck.exactness import exactness_cases
from romvae.selfcheck.faults_files import file_faults
from romvae.selfcheck.faults_surroundings import surroundings_faults
from romvae.selfcheck.faults_training import training_faults
from romvae.selfcheck.fuzz import fuzz_cases
from romvae.selfcheck.inputs_config import config_inputs
from romvae.selfcheck.inputs_data import hdf5_inputs
from romvae.selfcheck.inputs_model import checkpoint_inputs, mismatch_inputs
from romvae.selfcheck.inputs_store import store_inputs
from romvae.selfcheck.record import Case, Group, try_cases
from romvae.selfcheck.workshop import Workshop

__all__ = ["GROUPS", "run_selfcheck"]

Report = Callable[[str, int, int, str], None]


def _faults(shop: Workshop, quick: bool) -> list[Case]:
    cases = [*training_faults(shop, quick), *file_faults(shop, quick), *surroundings_faults(shop, quick)]
    return sorted(cases, key=lambda case: int(case.id[1:]))


GROUPS: dict[str, Callable[[Workshop, bool], Iterable[Case]]] = {
    "faults": _faults,
    "inputs: HDF5": hdf5_inputs,
    "inputs: Zarr and netCDF": store_inputs,
    "inputs: data against model": mismatch_inputs,
    "inputs: models": checkpoint_inputs,
    "inputs: settings and commands": config_inputs,
    "exactness": exactness_cases,
    "damaged files": fuzz_cases,
}


def run_selfcheck(
    quick: bool = False, report: Report | None = None, only: Sequence[str] = ()
) -> tuple[list[Group], dict[str, Any]]:
    """Tries everything in child processes and a temporary folder.

    Arguments:
        quick: Fewer kills and files, and nothing that starts a new interpreter.
        report: Called as `report(group, done, total, note)`.
        only: Words; groups whose name holds none of them are left out.

    Returns:
        The groups, and all of it as JSON types with machine and seconds.

    Raises:
        ConfigError: This system cannot fork, or no group is left.
    """
    if not hasattr(os, "fork") or sys.platform != "linux":
        raise ConfigError("selfcheck: needs Linux, where processes can be forked and looked at in /proc.")
    chosen = {name: make for name, make in GROUPS.items() if not only or any(word in name for word in only)}
    if not chosen:
        raise ConfigError(f"--only = {' '.join(only)}: expected part of one of {', '.join(GROUPS)}.")
    _warm_up()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="romvae-selfcheck-") as folder:
        shop = Workshop(Path(folder))
        groups = [try_cases(name, make(shop, quick), report or _silent) for name, make in chosen.items()]
    return groups, {
        "quick": quick,
        "seconds": round(time.perf_counter() - begin, 1),
        "machine": _machine(),
        "failed": sum(group.count("failed") for group in groups),
        "groups": [group.to_dict() for group in groups],
    }


def _silent(group: str, done: int, total: int, note: str) -> None:
    pass


def _warm_up() -> None:
    """Imports what the children need, and computes nothing: threads do not survive a fork."""
    import h5netcdf
    import h5py
    import torch
    import zarr

    import romvae.checkpoint
    import romvae.comparison
    import romvae.data
    import romvae.report
    import romvae.training

    torch.set_num_threads(1)
    loaded = (h5netcdf, h5py, zarr, romvae.checkpoint, romvae.comparison, romvae.data, romvae.report, romvae.training)
    gc.freeze() if all(loaded) else None


def _machine() -> dict[str, Any]:
    from romvae.environment import show_versions

    versions = show_versions()
    return {key: versions[key] for key in ("romvae", "processor", "cpus", "gpu", "commit")} | {
        "python": platform.python_version()
    }
