"""Every data set has a card and metadata; what they say is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from romvae import cli
from romvae.canonical import parameters_of
from romvae.data.card import KEYS, card, case_metadata, main, read_metadata
from romvae.data.mapping import Mapping
from romvae.data.readers import READERS
from romvae.errors import DataError
from romvae.solvers import CASES, simulate

DATASETS = Path(__file__).parents[2] / "datasets"
FOLDERS = sorted(path for path in DATASETS.iterdir() if path.is_dir())
PUBLIC = [path for path in FOLDERS if path.name not in CASES]


@pytest.mark.parametrize("name", CASES)
def test_metadata_of_a_case_is_that_of_the_code(name: str) -> None:
    """If this fails after a change of a case: python -m romvae.data.card CASE --write datasets."""
    assert read_metadata(DATASETS / name / "metadata.yaml") == case_metadata(name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_data_set_has_a_card_with_commands_that_exist(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert list(yaml.safe_load((folder / "metadata.yaml").read_text())) == list(KEYS)
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    commands = [shlex.split(line)[1:] for line in blocks.splitlines() if line.startswith("romvae ")]
    assert commands
    for command in commands:
        assert command[0] in cli.COMMANDS
        cli._app().parse_args(command, exit_on_error=False, print_error=False)  # options and types are right too
    if folder.name in CASES:
        assert any(command[:2] == ["simulate", folder.name] for command in commands)
    else:
        assert {"info", "pack", "train"} <= {command[0] for command in commands}


def test_all_public_layouts_have_a_card() -> None:
    readers = {read_metadata(folder / "metadata.yaml")["reader"] for folder in PUBLIC}
    assert readers == set(READERS) - {"cf", "vtk"}  # formats, not data sets
    for folder in PUBLIC:
        metadata = read_metadata(folder / "metadata.yaml")
        assert (metadata["kind"], metadata["name"]) == ("public", folder.name)
        assert metadata["citation"]
        assert metadata["source"].startswith("https://")


@pytest.mark.parametrize("path", [DATASETS / "README.md", *(folder / "README.md" for folder in PUBLIC)], ids=str)
def test_mappings_in_cards_are_valid(path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        Mapping.model_validate(yaml.safe_load(block))


def test_metadata_describes_what_simulate_gives() -> None:
    """The small case is simulated: names, units, axes, times and ranges are those of the card."""
    metadata = case_metadata("heat_1d")
    ds = simulate("heat_1d", n=2, seed=0)
    assert [(f["name"], f["units"]) for f in metadata["fields"]] == [(n, ds[n].units) for n in ds.data_vars]
    for axis in metadata["axes"]:
        x = ds[axis["name"]].values
        assert axis["size"] == x.size
        np.testing.assert_allclose([axis["lower"], axis["upper"]], [x[0], x[-1]], rtol=1e-11)  # twelve digits are kept
    times = ds["time"].values
    assert (metadata["times"]["count"], metadata["times"]["end"]) == (times.size, times[-1])
    assert sorted(p["name"] for p in metadata["parameters"]) == sorted(parameters_of(ds))
    for p in metadata["parameters"]:
        assert ((p["low"] <= ds[p["name"]].values) & (ds[p["name"]].values <= p["high"])).all()
    assert metadata["bytes"] == metadata["trajectories"] * ds["u"].nbytes // 2


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["heat_1d"])
    assert yaml.safe_load(capsys.readouterr().out) == case_metadata("heat_1d")
    main(["heat_1d", "--write", str(tmp_path)])
    folder = tmp_path / "heat_1d"
    assert read_metadata(folder / "metadata.yaml") == case_metadata("heat_1d")
    assert (folder / "README.md").read_text() == card(case_metadata("heat_1d"))
    (folder / "README.md").write_text("by hand")
    main(["heat_1d", "--write", str(tmp_path)])
    assert (folder / "README.md").read_text() == "by hand"  # what somebody wrote is kept


def test_metadata_with_other_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("name: a\ncolour: red\n")
    with pytest.raises(
        DataError, match=r"metadata.yaml: missing axes, .*, unknown colour; expected the keys format, name"
    ):
        read_metadata(tmp_path / "metadata.yaml")
