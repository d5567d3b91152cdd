"""What a result depends on beside the code: Python, machine, threads and package versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from romvae.version import __version__

__all__ = ["Environment", "available_cpus", "show_versions"]

_PACKAGES = (
    "torch",
    "lightning",
    "numpy",
    "scipy",
    "xarray",
    "zarr",
    "h5py",
    "h5netcdf",
    "matplotlib",
    "pydantic",
    "cyclopts",
    "rich",
    "safetensors",
    "scoringrules",
    "pydmd",
    "opinf",
    "neuraloperator",
    "scikit-learn",
)


class Environment(dict[str, Any]):
    """A JSON-able dictionary that prints as text to paste into a report."""

    def __str__(self) -> str:
        lines = [f"{key:<12} {value}" for key, value in self.items() if not isinstance(value, dict)]
        lines += [f"{name:<12} {version}" for name, version in self.get("packages", {}).items()]
        return "\n".join(lines)

    __repr__ = __str__


def show_versions() -> Environment:
    """Python, system, processor, threads, torch's devices, package versions, commit of a checkout.

    Returns:
        A dictionary of plain JSON values; `print` shows it as text.
    """
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return Environment(
        romvae=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=platform.platform(),
        processor=_processor(),
        cpus=available_cpus(),
        threads=torch.get_num_threads(),
        gpu=gpu,
        cuda=torch.version.cuda or "none",
        commit=_commit() or "none",
        packages={name: _version(name) for name in _PACKAGES},
    )


def available_cpus() -> int:
    """Processors that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout that romvae is imported from, with `+changes` where files differ from it."""
    top = Path(__file__).parents[1]
    if not (top / ".git").exists():
        return None
    try:
        commit = _git(top, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(top, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(top: Path, *arguments: str) -> str:
    command = ["git", "-C", str(top), *arguments]
    return subprocess.run(  # noqa: S603 (fixed arguments)
        command, check=True, capture_output=True, text=True, timeout=5
    ).stdout.strip()
