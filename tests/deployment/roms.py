"""Small ROMs of every kind whose weights are random all over: a zero would hide what is left out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import xarray as xr

from romvae.calibration import RunFactor, run_features
from romvae.distributions import moments
from romvae.rom import ROM
from romvae.tensors import control_tensor
from romvae.testing import mock_snapshots

SIZES: dict[str, Any] = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
KINDS: dict[str, dict[str, Any]] = {
    "residual": {},
    "2-D": {"ndim": 2, "stride": 2},
    "3-D": {"ndim": 3},
    "mask": {"ndim": 2, "mask": True},
    "controls": {"controls": True},
    "controls, linear": {"controls": True, "dynamics": "linear", "compression": "pod"},
    "stride": {"stride": 3},
    "linear": {"dynamics": "linear"},
    "gp": {"dynamics": "gp", "stride": 2},
    "ode": {"dynamics": "ode", "stride": 2},
    "ode, exponential": {"dynamics": "ode", "stride": 2, "exponential": True},
    "gru": {"dynamics": "gru", "history": 3, "stride": 2},
    "transformer": {"dynamics": "transformer", "history": 2},
    "fourier": {"dynamics": "fourier", "ndim": 2, "stride": 2},
    "gaussian transition": {"transition": "gaussian"},
    "full posterior": {"posterior": "full"},
    "flow posterior": {"posterior": "flow"},
    "ppca": {"compression": "ppca"},
    "autoencoder": {"compression": "ae", "skip": True},
    "student_t": {"variance": "student_t"},
    "fixed variance": {"variance": "fixed"},
    "bernoulli": {"observation": "bernoulli"},
    "continuous bernoulli": {"observation": "continuous_bernoulli", "ndim": 2, "mask": True},
}


def snapshots(ndim: int = 1, mask: bool = False, controls: bool = False, bounded: bool = False) -> xr.Dataset:
    """Trajectories of mock data, with an obstacle, a control or values in [0, 1] where asked for."""
    ds = mock_snapshots(ndim, ("u", "v") if ndim < 3 else ("u",), trajectories=12, times=14)
    if bounded:
        ds = ds.assign({f: ds[f].copy(data=0.5 + 0.4 * np.tanh(ds[f].values)) for f in ds.data_vars})
    if controls:
        forcing = np.random.default_rng(0).normal(size=(12, 14))
        ds["f"] = (("trajectory", "time"), forcing, {"romvae_role": "forcing", "units": "m s-2"})
    if mask:
        inside = np.ones((ds.sizes["y"], ds.sizes["x"]), np.int8)
        inside[2:4, 3:6] = 0
        ds["mask"] = (("y", "x"), inside)
    return ds


def random_runs(rom: ROM, data: xr.Dataset, generator: torch.Generator) -> RunFactor:
    """Random weights of what is known of a run before it begins; half of the data lie outside of what they know."""
    x, c = rom.normalised(data)
    features = run_features(x[:, 0], c, torch.ones(x.shape[0], x.shape[2]), rom.vae.decoder.mask)
    found = RunFactor(x.shape[2])
    found.weight = torch.randn(features.shape[1:], generator=generator)
    found.centre = features.mean(0)
    found.least, found.most = features.quantile(0.25, 0), features.quantile(0.75, 0)
    found.reach = torch.tensor([[-1.0], [1.0]]).expand(-1, x.shape[2]).clone()
    return found


@cache
def built(kind: str) -> tuple[ROM, xr.Dataset]:
    """A ROM of this kind and its data; calibrated with random factors."""
    given = dict(KINDS[kind])
    stride, exponential = given.pop("stride", 1), given.pop("exponential", False)
    where = {name: given.pop(name) for name in ("ndim", "mask", "controls") if name in given}
    data = snapshots(**where, bounded="observation" in given)
    rom = ROM.for_data(data, **SIZES, **given)
    if stride > 1:
        description = rom.description().replace('"stride": 1', f'"stride": {stride}')
        rom, old = ROM.from_description(description), rom
        rom.load_state_dict({k: v for k, v in old.state_dict().items() if "dynamics" not in k}, strict=False)
    rom.dynamics.stride = stride
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in rom.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        if hasattr(rom.dynamics, "products"):
            rom.dynamics.products.take_part(1)
        if hasattr(rom.dynamics, "polynomial"):
            weight = rom.dynamics.polynomial.weight[0]
            rom.dynamics.polynomial.start_at(0.001 * torch.randn(weight.shape, generator=generator))
            beside = {"dense": torch.tensor(not exponential), "exponential": torch.tensor(exponential)}
            rom.dynamics.load_state_dict(rom.dynamics.state_dict() | beside)
        if rom.dynamics.closed_form:
            x, c = rom.normalised(data)
            z = moments(rom.vae.encoder(x.flatten(0, 1)))[0].unflatten(0, x.shape[:2])
            rom.dynamics.start_from_linear(z, c, control_tensor(data, rom.schema, rom.control_scaling))
        if "local" in rom.vae.decoder._buffers:
            rom.vae.decoder.local.fill_(True)
        ratio = 2 * torch.rand(4, len(rom.schema.fields), 30, 16, generator=generator)
        rom.calibration.fit(torch.tensor([0.0, 2.0, 5.0, 9.0]), ratio)
        rom.calibration.parts.power.fill_(0.5)
        rom.calibration.parts.factor.fill_(3.0)
        rom.calibration.parts.usual.fill_(0.7)
        rom.calibration.parts.least.fill_(-2.0)
        rom.calibration.runs = random_runs(rom, data, generator)
    return rom.eval(), data
