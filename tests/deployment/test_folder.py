"""The exported folder: its card, its scripts without romvae, and what is refused."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import romvae
from romvae import cli
from romvae.baselines.model import BaselineModel
from romvae.checkpoint import file_sha256
from romvae.deployment import folder as module
from romvae.deployment.parts import require_exportable
from romvae.deployment.tracing import opened
from romvae.errors import ConfigError, FewMembersWarning, NumericsError, OutOfRangeWarning, OutputError
from romvae.rom import ROM
from tests.deployment.roms import SIZES, built, snapshots

ALONE = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
for line in sys.argv[1:]:
    sys.argv = line.split()
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _alone(folder, *lines, blocked=("romvae",)):
    """Runs scripts of the folder, one after the other, where romvae cannot be imported; what they print."""
    code = ALONE.replace("BLOCKED", repr(tuple(blocked)))
    command = [sys.executable, "-I", "-c", code, *lines]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def untraced(monkeypatch):
    """Programs that are run as modules, so that a folder is made in no time."""
    held = {}

    def written(program, path, kind):
        path.write_bytes(program.name.encode())
        held[path.name] = program

    def read(path, outputs):
        def run(inputs):
            with torch.no_grad():
                out = held[path.name].module(
                    **{k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in inputs.items()}
                )
            return {name: value.numpy() for name, value in out.items()}

        return run

    monkeypatch.setattr(module, "written", written)
    monkeypatch.setattr(module, "opened", read)
    return held


def test_the_card_says_what_the_model_is(untraced, tmp_path):
    rom, data = built("mask")
    metrics = {"rom": {"relative_l2": 0.0123, "coverage_90": 0.91, "intervals": {"relative_l2": [0.01, 0.02]}}}
    seen = []
    out = romvae.export(
        rom,
        tmp_path / "out",
        steps=4,
        members=5,
        data=data,
        metrics=metrics,
        licence="CC0",
        progress=lambda *w: seen.append(w),
    )
    card, text = json.loads((out / "card.json").read_text()), (out / "MODEL_CARD.md").read_text()
    assert card["parameters"][0] == {"name": "viscosity", "units": "m2 s-1", **_range(data)}
    assert [f["units"] for f in card["fields"]] == ["m s-1", "m s-1"]
    assert [axis["name"] for axis in card["grid"]] == ["y", "x"]
    assert card["grid"][1]["lower"] == "periodic"
    assert card["grid"][0]["upper"] == {"kind": "value", "value": {"u": 0.0, "v": 0.0}}
    assert card["points_outside_the_domain"] == 6
    assert (card["time"]["step"], card["time"]["steps"], card["time"]["trained_steps"]) == (pytest.approx(0.1), 4, 13)
    assert card["data_sha256"] == rom.data_hash != ""
    assert card["calibration"]["trajectories"] == 30
    assert "30 trajectories" in card["calibration"]["statement"]
    assert card["accuracy"] == {
        **{k: v for k, v in metrics["rom"].items() if k != "intervals"},
        "intervals_95": {"relative_l2": [0.01, 0.02]},
    }
    assert card["programs"]["rollout"]["inputs"]["fields"] == {"dtype": "float64", "shape": ["batch", 2, 8, 12]}
    assert card["checked"]["largest"] < 2e-4
    assert {name: file_sha256(out / name) for name in card["sha256"]} == card["sha256"]
    assert set(card["sha256"]) == {f.name for f in out.iterdir()} - {"card.json", "MODEL_CARD.md"}
    for words in (
        "CC0",
        "m2 s-1",
        "trained range",
        "0.0123",
        "| `rollout.pt2` |",
        card["data_sha256"],
        "can execute code",
    ):
        assert words in text
    assert seen[-1][1] == seen[-1][2]
    for name in ("run_without_romvae.py", "step_by_step.py"):
        source = (out / name).read_text()
        compile(source, name, "exec")
        assert "import romvae" not in source
    assert len((out / "run_without_romvae.py").read_text().splitlines()) <= 45


def _range(data):
    return {"low": float(data.viscosity.min()), "high": float(data.viscosity.max())}


def test_without_data_and_scores_the_card_says_so(untraced, tmp_path):
    rom, _ = built("controls")
    out = romvae.export(rom, tmp_path / "out", steps=3, members=4)
    card, text = json.loads((out / "card.json").read_text()), (out / "MODEL_CARD.md").read_text()
    assert "decoded random codes" in card["checked"]["example"]
    assert card["controls"][0]["units"] == "m s-2"
    assert "Not measured" in text
    assert "to be filled in" in text
    assert any("4 members say little" in limit for limit in card["limits"])
    example = np.load(out / "example.npz")
    assert example["controls"].shape == (3, 4, 1)
    assert np.load(out / "noise.npz")["noise"].shape == (4, 16, 3)


def test_a_program_that_differs_leaves_nothing_behind(untraced, monkeypatch, tmp_path):
    read = module.opened

    def wrong(path, outputs):
        run = read(path, outputs)
        return lambda inputs: {name: value * 1.1 for name, value in run(inputs).items()}

    monkeypatch.setattr(module, "opened", wrong)
    rom, data = built("residual")
    with pytest.raises(NumericsError, match=r"rollout differs from the ROM in .* nothing was written"):
        romvae.export(rom, tmp_path / "out", steps=2, members=2, data=data)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_with_the_reason(tmp_path, monkeypatch):
    rom, _ = built("residual")
    baseline = object.__new__(BaselineModel)
    baseline.baseline = SimpleNamespace(name="dmd")
    for model, arguments, message in (
        (baseline, {}, r"the baseline 'dmd', which has no networks .*--model vae"),
        (rom, {"format": "tflite"}, r"format is 'tflite', expected torch or onnx"),
        (rom, {"steps": 0}, r"steps is 0, expected 1 or more"),
        (rom, {"level": 1.0}, r"level is 1\.0, expected between 0 and 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            romvae.export(model, tmp_path / "out", **arguments)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    with pytest.raises(OutputError, match="exists already"):
        romvae.export(rom, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"needs onnx, which is not installed\. Run pip install 'romvae\[onnx\]'"):
        romvae.export(rom, tmp_path / "other", format="onnx")


def test_kinds_that_are_no_fixed_graph_are_refused():
    gp, linear = built("gp")[0], copy.deepcopy(built("linear")[0])
    with pytest.raises(
        ConfigError, match=r"dynamics 'gp' .* eigenvalues, which ONNX cannot compute\. Use --format torch"
    ):
        require_exportable(gp, "onnx")
    require_exportable(gp, "torch")
    linear.dynamics.A[:, :, 1:] = 0.0  # one matrix for all parameters is settled beforehand
    require_exportable(linear, "onnx")
    pytest.importorskip("torchdiffeq")
    adaptive = ROM.for_data(snapshots(), **SIZES, dynamics="ode", ode_solver="adaptive")
    with pytest.raises(ConfigError, match=r"chooses its steps from the values .*--model\.ode-solver rk4"):
        require_exportable(adaptive, "torch")


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    assert cli.main(["export", str(tmp_path / "none")]) == 3
    assert cli.main(["export", str(tmp_path), "--tolerance", "0"]) == 2
    rom, _ = built("residual")
    saved = rom.save(tmp_path / "rom")
    (tmp_path / "bad.json").write_text("[]")
    assert cli.main(["export", str(saved), "--metrics", str(tmp_path / "bad.json")]) == 3
    said = capsys.readouterr().err
    for words in ("no such folder", "--tolerance = 0.0: should be positive", "bad.json: has no scores of a ROM"):
        assert words in said


@pytest.mark.slow
def test_an_exported_rom_forecasts_where_there_is_no_romvae(tmp_path, capsys):
    rom, data = built("stride")
    saved = rom.save(tmp_path / "rom")
    words = ["--steps", "4", "--members", "3", "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(["export", str(saved), *words]) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    assert "programs, within" in capsys.readouterr().out
    # Trajectories of one's own, more than the stored noise has; the first have the ROM's own numbers.
    start = data.isel(time=0, trajectory=[*range(12), *range(8)]).assign_coords(trajectory=np.arange(20))
    start = start.assign_coords(viscosity=2 * start.viscosity)
    fields = np.stack([start[f].values for f in rom.schema.field_names], 1)
    np.savez(out / "mine.npz", fields=fields, parameters=start.viscosity.values[:, None])
    printed = _alone(
        out,
        "run_without_romvae.py example.npz a.npz",
        "run_without_romvae.py mine.npz b.npz",
        "step_by_step.py 11 example.npz c.npz",
    )
    assert "u [m s-1] at the end" in printed
    assert "warning: viscosity lies outside the trained range" in printed
    truth, same, other, longer = (np.load(out / f"{n}.npz") for n in ("example_forecast", "a", "b", "c"))
    for name in truth:
        np.testing.assert_allclose(same[name], truth[name], atol=1e-4)
    with pytest.warns(OutOfRangeWarning), pytest.warns(FewMembersWarning):
        wanted = rom.rollout(start, 4, 3)
    assert other["mean"].shape == (20, 5, 2, 16)
    np.testing.assert_allclose(other["mean"][:16, :, 0], wanted.u.values[:16], atol=1e-4)
    np.testing.assert_allclose(other["upper"][:16, :, 1], wanted.v_upper.values[:16], atol=1e-4)
    np.testing.assert_allclose(longer["std"][:, :5], truth["std"], atol=1e-4)
    assert longer["mean"].shape[1] == 12
    with (out / "rollout.pt2").open("ab") as file:  # what was changed is not run
        file.write(b"x")
    with pytest.raises(AssertionError, match="damaged or changed"):
        _alone(out, "run_without_romvae.py")


@pytest.mark.slow
def test_onnx_models_forecast_without_torch(tmp_path):
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    rom, data = built("residual")
    out = romvae.export(rom, tmp_path / "out", format="onnx", steps=1, members=2, data=data)
    assert json.loads((out / "card.json").read_text())["checked"]["largest"] < 2e-4
    _alone(out, "run_without_romvae.py example.npz a.npz", blocked=("romvae", "torch"))
    truth, found = np.load(out / "example_forecast.npz"), np.load(out / "a.npz")
    for name in truth:
        np.testing.assert_allclose(found[name], truth[name], atol=1e-4)
    assert not any(b"romvae/" in file.read_bytes() for file in out.glob("*.onnx"))  # no paths of this machine
    decoded = opened(out / "decoder.onnx", {"mean": "", "std": ""})({"latents": np.zeros((1, 3), np.float32)})
    assert decoded["mean"].shape == (1, 2, 16)
