"""Reflections and quarter turns: a group, right for vectors, and kept by the solvers that declare them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from romvae.boundary import Boundary, BoundaryKind
from romvae.data import split
from romvae.errors import OutOfRangeWarning, SchemaError
from romvae.grid import Axis, Grid
from romvae.invariance import symmetry_of
from romvae.normalise import Normaliser
from romvae.rom import ROM
from romvae.schema import Field, Schema
from romvae.solvers import CASES
from romvae.solvers.operators import uniform_axis
from romvae.symmetry import Symmetry, operation, operations_of
from romvae.testing import mock_snapshots
from romvae.training import fit

FIELDS = (
    Field("u", vector="velocity", component="x"),
    Field("v", vector="velocity", component="y"),
    Field("p"),
    Field("w", pseudoscalar=True),
)


def _axis(name: str, points: int, ends: BoundaryKind = "periodic") -> Axis:
    return uniform_axis(name, points, 2.0, (Boundary(ends), Boundary(ends)), -1.0)


def _schema(ends: BoundaryKind = "periodic", size: tuple[int, int] = (12, 12)) -> Schema:
    axes = tuple(_axis(name, n, ends) for name, n in zip(("y", "x"), size, strict=True))
    return Schema(FIELDS, Grid(axes), 0.1, symmetries=Grid(axes).symmetries)


def _stream(schema: Schema, psi) -> torch.Tensor:
    """Velocity u = psi_y, v = -psi_x, a pressure psi^2 and the vorticity of a stream function, by its derivatives."""
    y, x = np.meshgrid(*(np.asarray(axis.coordinates) for axis in schema.grid.axes), indexing="ij")
    value, psi_x, psi_y, laplacian = psi(x, y)
    return torch.from_numpy(np.stack([psi_y, -psi_x, value**2, -laplacian]))[None]


def _psi(x, y):
    a, b = np.pi * x, 2 * np.pi * y
    value = np.sin(a + 0.3) * np.cos(b)
    return (
        value,
        np.pi * np.cos(a + 0.3) * np.cos(b),
        -2 * np.pi * np.sin(a + 0.3) * np.sin(b),
        -5 * np.pi**2 * value,
    )


def _psi_mirrored(x, y):
    """-psi(-x, y): the stream function of the flow seen in a mirror across x = 0."""
    value, psi_x, psi_y, laplacian = _psi(-x, y)
    return -value, psi_x, -psi_y, -laplacian


def _psi_turned(x, y):
    """psi(y, -x): the stream function of the flow turned by 90 degrees against the clock."""
    value, psi_x, psi_y, laplacian = _psi(y, -x)
    return value, -psi_y, psi_x, laplacian


@pytest.mark.parametrize("ends", ["periodic", "wall"])
@pytest.mark.parametrize(("name", "moved"), [("reflect_x", _psi_mirrored), ("rotate_xy", _psi_turned)])
def test_a_flow_is_moved_as_a_whole(name, moved, ends):
    schema = _schema(ends)
    torch.testing.assert_close(operation(name, schema)(_stream(schema, _psi)), _stream(schema, moved))


@pytest.mark.parametrize("ends", ["periodic", "wall"])
def test_the_operations_form_the_group_of_the_square(ends):
    schema = _schema(ends)
    x = torch.randn(3, 8, 12, 12)  # two snapshots of four fields
    flip, turn = operation("reflect_x", schema), operation("rotate_xy", schema)
    assert torch.equal(flip(flip(x)), x)
    assert torch.equal(turn(turn(turn(turn(x)))), x)
    assert not torch.equal(turn(turn(x)), x)
    assert torch.equal(turn(flip(turn(x))), flip(x))
    assert torch.equal(turn(turn(x)), flip(operation("reflect_y", schema)(x)))


def test_a_sign_is_turned_in_physical_units_whatever_the_normalisation():
    schema = _schema()
    normaliser = Normaliser([3.0, -1.0, 0.5, 2.0], [2.0, 0.1, 5.0, 1.0])
    u = torch.randn(2, 4, 12, 12, dtype=torch.float64)
    for one in operations_of(schema):
        moved = one.normalised(normaliser.mean.tolist(), normaliser.std.tolist())(normaliser(u))
        torch.testing.assert_close(normaliser.inverse(moved), one(u))


def test_a_random_move_is_one_of_the_group_and_follows_from_the_generator():
    schema = _schema()
    symmetry = Symmetry((1,), operations_of(schema))
    x = torch.randn(64, 4, 12, 12)
    one = symmetry.random(x, torch.Generator().manual_seed(1))
    assert torch.equal(one, symmetry.random(x, torch.Generator().manual_seed(1)))
    assert not torch.equal(one, symmetry.random(x, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(one.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
    assert (
        len({tuple(row) for row in torch.stack(symmetry.draw(x.shape, torch.Generator().manual_seed(1)), 1).tolist()})
        > 32
    )


def test_a_grid_that_is_not_symmetric_is_refused():
    schema = _schema()
    obstacle = np.ones((12, 12), dtype=bool)
    obstacle[4, 2] = False
    with pytest.raises(SchemaError, match="'reflect_z' is unknown, expected one of reflect_y, reflect_x, rotate_xy"):
        operation("reflect_z", schema)
    with pytest.raises(SchemaError, match="'x' has 10 points, 'y' has 12"):
        operation("rotate_xy", _schema(size=(12, 10)))
    with pytest.raises(SchemaError, match="the obstacle is not symmetric in that way"):
        operation("reflect_x", schema, obstacle)
    alone = replace(schema, fields=FIELDS[:1])
    with pytest.raises(SchemaError, match="vector 'velocity' has no component 'y'"):
        operation("rotate_xy", alone)


def test_the_declaration_travels_from_the_data_to_the_schema_and_through_json():
    data = mock_snapshots(2, ("u", "v"))
    data["u"].attrs |= {"vector_name": "velocity", "vector_component": "x"}
    data.attrs["symmetries"] = '["reflect_x"]'
    schema = Schema.of(data)
    assert schema.symmetries == ("reflect_x",)
    assert operations_of(schema)[0].signs == (-1.0, 1.0)
    assert Schema.from_json(schema.to_json()) == schema
    data.attrs["symmetries"] = "reflect_x"
    with pytest.raises(SchemaError, match="attribute symmetries is 'reflect_x', expected a JSON list"):
        Schema.of(data)


def test_a_declared_symmetry_is_used_only_where_the_data_have_it():
    data = mock_snapshots(1, ("u",), trajectories=12)
    x = torch.randn(64, 5, 1, 16)
    schema = replace(Schema.of(data), symmetries=("reflect_x",))
    schema = replace(schema, grid=Grid((_axis("x", 16),)))
    ramp = torch.linspace(0, 5, 16)
    unit = Normaliser([0.0], [1.0])
    assert [one.name for one in symmetry_of(x, schema, unit).operations] == ["reflect_x"]
    assert symmetry_of(x + ramp, schema, unit) == Symmetry()


def test_training_notes_the_symmetries_it_uses():
    data = mock_snapshots(1, ("u",), trajectories=30, times=8)
    data.attrs["symmetries"] = '["reflect_x"]'
    parts = split(data, seed=0)
    rom = ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        history = fit(rom, parts, seed=0, vae_steps=4, variance_steps=2, dynamics_steps=4, batch_size=8)
    assert history.notes["operations"] == ["reflect_x"]


LONG = ("gray_scott_3d", "shallow_water_2d", "fitzhugh_nagumo_2d_pdebench")
"""Cases with costly steps."""
SYMMETRIC = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
    for name, case in CASES.items()
    if case.solver().symmetries
]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_solution_that_is_moved_is_the_solution_from_the_moved_start(name):
    """To 1e-6 of the field: summation orders differ, and adaptive steps see another order of points."""
    case = CASES[name]
    drawn = case.draw(0, 0)
    solver, u0 = drawn.solver, drawn.u0
    times = np.asarray(case.times)[:3]
    schema = Schema(solver.fields, solver.grid, 1.0, symmetries=solver.symmetries)
    reference = solver.solve(u0, times)
    scale = np.abs(reference - reference.mean()).max()
    for one in operations_of(schema):  # what a solver keeps inside of an obstacle is moved too
        moved = solver.solve(one(torch.from_numpy(u0)[None])[0].numpy(), times)
        expected = one(torch.from_numpy(reference)).numpy()
        assert np.abs(moved - expected).max() < 1e-6 * scale, one.name
