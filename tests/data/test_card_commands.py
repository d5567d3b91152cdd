"""The commands on the cards of public data sets run as they stand there, on small files where the card expects them."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from romvae.data import open_snapshots

from . import foreign_files as files
from .test_cards import DATASETS, PUBLIC


def _in(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _bubbles(path: Path) -> None:
    files.bubbleml(_in(path))


def _well() -> None:
    for part in ("train", "valid"):
        files.well(_in(Path(f"data/datasets/turbulent_radiative_layer_2D/data/{part}/a.hdf5")))


def _pdebench() -> None:
    for nu in ("0.01", "0.1"):
        files.pdebench_scalar(_in(Path(f"data/1D_Burgers_Sols_Nu{nu}.hdf5")))


def _cfdbench() -> None:
    for part in ("prop", "bc"):
        files.cfdbench(_in(Path(f"data/cylinder/{part}")))


def _dedalus() -> None:
    for run in (1, 2, 3):
        files.dedalus(_in(Path(f"runs/run{run}/snapshots")))


MADE: dict[str, Callable[[], object]] = {
    "apebench": lambda: files.apebench(_in(Path("data/apebench/1d_phy_burgers"))),
    "bubbleml": lambda: _bubbles(Path("data/PoolBoiling-Saturated-FC72-2D")),
    "cfdbench": _cfdbench,
    "dedalus": _dedalus,
    "jhtdb": lambda: files.jhtdb(_in(Path("data/channel/channel.h5"))),
    "pdearena": lambda: files.pdearena_flow(_in(Path("data/NavierStokes2D_train_208351_0.50000_64.h5"))),
    "pdebench": _pdebench,
    "the_well": _well,
}
SMALL = {"--min-steps 100": "--min-steps 1", "--time 30:": "--time 0:"}
"""What asks for more times than the small files have."""


def test_every_public_card_is_tried() -> None:
    assert set(MADE) == {folder.name for folder in PUBLIC}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.slow
def test_commands_of_a_card_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `info` and `pack` are given on the card; the packed store is checked, and is what `train` is given."""
    from romvae import cli

    monkeypatch.chdir(tmp_path)
    text = (DATASETS / name / "README.md").read_text(encoding="utf-8")
    MADE[name]()
    Path("data").mkdir(exist_ok=True)
    for given in re.findall(r"`(\w+\.yaml)` (?:says|does)", text)[:1]:
        block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
        assert block is not None
        Path(given).write_text(block[1])
    for long, short in SMALL.items():
        text = text.replace(long, short)
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    commands = {shlex.split(line)[1]: shlex.split(line)[1:] for line in lines if line.startswith("romvae ")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(commands["info"]) in (0, None)
        assert cli.main(commands["pack"]) in (0, None)
        store = commands["train"][1]
        assert cli.main(["check", store]) in (0, None)
        open_snapshots(store).close()
