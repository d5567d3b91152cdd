"""What is exported computes what the ROM computes: as modules for every kind, as graphs for those that are delicate."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from romvae.deployment.checks import difference, first_of, require_equal, stepwise
from romvae.deployment.example import example_of, expected
from romvae.deployment.parts import programs_of
from romvae.deployment.programs import Plan
from romvae.deployment.tracing import SUFFIX, opened, written
from romvae.deployment.whole import OUTPUTS
from romvae.errors import NumericsError
from tests.deployment.roms import KINDS, built

ROUNDING = 2e-4
"""Single precision over a few steps."""
OF_PARTS = (8 * float(np.finfo(np.float32).eps)) ** 0.5
"""Of parts of the spread, roots of small differences of two variances: eight roundings of these."""


def _close(differences):
    parts = ("std_posterior", "std_ensemble")
    return all(value < (OF_PARTS if name in parts else ROUNDING) for name, value in differences.items())


def _eager(program):
    def run(inputs):
        with torch.no_grad():
            out = program.module(**{name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in inputs.items()})
        return {name: value.numpy() for name, value in out.items()}

    return run


def _programs(kind, steps=7, members=5, data=True):
    if "flow" in kind:
        pytest.importorskip("zuko")
    rom, snapshots = built(kind)
    plan = Plan(steps, members)
    example = example_of(rom, snapshots if data else None, plan)
    inputs = example.inputs(rom, plan)
    back = example.inputs(rom, plan, looking_back=True) if rom.dynamics.window > 1 else {}
    programs = {p.name: p for p in programs_of(rom, plan, inputs, back.get("earlier"))}
    return rom, plan, example, inputs, back, programs


@pytest.mark.parametrize(
    ("kind", "data"), [*((kind, True) for kind in KINDS), ("controls", False), ("mask", False), ("gru", False)]
)
def test_every_kind_forecasts_as_the_rom_does(kind, data):
    rom, plan, example, inputs, back, programs = _programs(kind, data=data)
    runners = {name: _eager(program) for name, program in programs.items()}
    wanted = expected(rom, plan, example)
    found = runners["rollout"](inputs)
    assert set(found) == {*OUTPUTS, "latent"} == set(wanted)
    assert all(found[name].shape == wanted[name].shape for name in wanted)
    assert _close(difference(rom, found, wanted))
    assert _close(difference(rom, stepwise(rom, plan.steps, runners, inputs), wanted))
    if back:
        differences = difference(rom, runners["rollout_history"](back), expected(rom, plan, example, looking_back=True))
        assert _close(differences)
        assert not np.allclose(runners["rollout_history"](back)["mean"][:, -1], found["mean"][:, -1], rtol=1e-4)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_any_number_of_members_follows_the_networks_in_turn(members):
    rom, plan, example, inputs, _, programs = _programs("residual", members=members)
    assert ("noise" in inputs) == (members > 1)
    found = _eager(programs["rollout"])(inputs)
    assert max(difference(rom, found, expected(rom, plan, example)).values()) < ROUNDING


@pytest.mark.parametrize("interval", ["field", "run"])
def test_bands_are_those_of_the_rom(interval):
    rom, snapshots = built("residual")
    plan = Plan(12, 4, 0.8, interval, 0.95)  # beyond the last calibrated lead time
    example = example_of(rom, snapshots, plan)
    inputs = example.inputs(rom, plan)
    found = _eager(programs_of(rom, plan, inputs, None)[-1])(inputs)
    assert max(difference(rom, found, expected(rom, plan, example)).values()) < ROUNDING


def test_units_go_through_the_program():
    """Fields in a unit a thousand times smaller have values, spread and interval a thousand times larger."""
    rom, plan, _, inputs, _, programs = _programs("residual")
    other = copy.deepcopy(rom)
    other.normaliser.mean *= 1000.0
    other.normaliser.std *= 1000.0
    scaled = {**inputs, "fields": 1000.0 * inputs["fields"]}
    small = _eager(programs["rollout"])(inputs)
    large = _eager(programs_of(other, plan, scaled, None)[-1])(scaled)
    for name in OUTPUTS:
        np.testing.assert_allclose(large[name], 1000.0 * small[name], rtol=1e-4, atol=0.1)


def test_encoder_and_decoder_are_the_roms_in_physical_units():
    rom, _, example, inputs, _, programs = _programs("2-D")
    codes = rom.encode(example.start)
    found = _eager(programs["encoder"])({name: inputs[name] for name in ("fields", "noise")})
    np.testing.assert_allclose(found["mean"], codes["latent_mean"].isel(time=-1), atol=1e-5)
    np.testing.assert_allclose(found["std"], codes["latent_std"].isel(time=-1), atol=1e-5)
    np.testing.assert_array_equal(found["start"][-1], found["mean"])  # the last rows are the networks' own


def test_a_written_program_takes_any_batch_and_holds_no_path_of_this_machine(tmp_path):
    program = _programs("mask")[-1]["encoder"]
    written(program, tmp_path / "p.pt2", "torch")
    run, eager = opened(tmp_path / "p.pt2", program.outputs), _eager(program)
    assert b"romvae" not in (tmp_path / "p.pt2").read_bytes()
    given = {key: np.resize(v, (7, *v.shape[1:])) for key, v in program.inputs.items() if key != "noise"}
    if "noise" in program.inputs:
        given["noise"] = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    for count in (given, first_of(given)):
        for key, value in run(count).items():
            np.testing.assert_allclose(value, eager(count)[key], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "form"),
    [
        ("gp", "rollout", "torch"),
        ("full posterior", "encoder", "torch"),
        ("gaussian transition", "dynamics", "torch"),
        ("student_t", "decoder", "torch"),
        ("full posterior", "encoder", "onnx"),
        ("flow posterior", "encoder", "onnx"),
        ("gaussian transition", "dynamics", "onnx"),
        ("transformer", "dynamics_2", "onnx"),
        ("gru", "dynamics_3", "onnx"),
        ("ode", "dynamics", "onnx"),
        ("fourier", "dynamics", "onnx"),
    ],
)
def test_graphs_of_delicate_kinds(tmp_path, kind, name, form):
    """Eigenvalues, index assignments, noise at every step, attention, flows: read back, for two sizes of the batch."""
    for library in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" else ():
        pytest.importorskip(library)
    program = _programs(kind, steps=2, members=2)[-1][name]
    path = tmp_path / f"p{SUFFIX[form]}"
    written(program, path, form)
    run, eager = opened(path, program.outputs), _eager(program)
    given = {
        key: np.random.default_rng(0).normal(0.5, 0.1, v.shape).astype(v.dtype) for key, v in program.inputs.items()
    }
    axes = {key: next(iter(free)) for key, free in program.free.items()}
    for count in (3, 1):
        some = {key: np.ascontiguousarray(v.take(range(count), axes[key])) for key, v in given.items()}
        for key, value in run(some).items():
            np.testing.assert_allclose(value, eager(some)[key], atol=1e-5)


def test_a_difference_beyond_rounding_is_refused_with_its_place():
    differences = {"mean": 1e-7, "std": 0.02}
    require_equal("rollout", differences, 0.05)
    with pytest.raises(NumericsError, match=r"rollout differs from the ROM in 'std' by 0\.02 .* at most 0\.001"):
        require_equal("rollout", differences, 1e-3)
    with pytest.raises(NumericsError, match="'mean' by nan"):
        require_equal("rollout", {"mean": float("nan"), "std": 1.0}, 1e-3)
