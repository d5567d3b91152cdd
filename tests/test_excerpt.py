"""A part of a forecast is that part of the whole one, and the mean alone is what the networks agree on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.distributions import moments
from romvae.errors import ConfigError
from romvae.nn.window import windowed
from romvae.propagation import network_paths
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from tests.deployment.roms import random_runs

KINDS = [
    {"ndim": 1, "fields": ("u",)},
    {"ndim": 2, "fields": ("v", "p")},
    {"ndim": 3, "fields": ("u",)},
    {"ndim": 2, "fields": ("u",), "compression": "ppca"},
    {"ndim": 1, "fields": ("u",), "variance": "student_t"},
]


def _rom(ndim: int, fields: tuple[str, ...], **choices: str) -> tuple[ROM, xr.Dataset]:
    """Nothing in it is zero, as it is at the start of a training."""
    data = mock_snapshots(ndim, fields, trajectories=6, times=8)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2, **choices)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in rom.vae.decoder.parameters():
            each.add_(0.2 * torch.randn(each.shape, generator=generator))
        if hasattr(rom.vae.decoder, "local"):
            rom.vae.decoder.local.fill_(True)
    rom.calibration.parts.power.fill_(0.5)
    rom.calibration.parts.factor.fill_(0.5)
    rom.calibration.runs = random_runs(rom, data, generator)
    return rom.eval(), data


def _regions(data: xr.Dataset) -> list[dict[str, tuple[float, float]]]:
    """In the middle of all axes, at an edge of one, and a single point of it."""
    axes = [d for d in ("z", "y", "x") if d in data.dims]
    x = {d: data[d].values for d in axes}
    middle = {d: (x[d][len(x[d]) // 2 - 1], x[d][len(x[d]) // 2 + 1]) for d in axes}
    last = axes[-1]
    return [middle, {last: (x[last][0], x[last][2])}, {last: (x[last][3], x[last][3])}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_excerpt_is_that_part_of_the_whole_forecast(kind):
    rom, data = _rom(**kind)
    start, times = data.isel(time=0), data["time"].values[[1, 4]]
    for propagation in ("members", "linear", "mean") if kind["ndim"] == 1 else ("members", "mean"):
        whole = rom.rollout(start, 5, 8, propagation=propagation)
        for region in _regions(data):
            part = rom.rollout(start, 5, 8, propagation=propagation, times=times, region=region)
            expected = whole.sel(time=times).sel({d: slice(*ends) for d, ends in region.items()})
            # Other batches round differently.
            xr.testing.assert_allclose(part, expected, rtol=2e-5, atol=2e-6)
        fields = kind["fields"][-1:]
        some = rom.rollout(start, 5, 8, propagation=propagation, fields=fields)
        rest = [name for name in whole.data_vars if name not in some.data_vars]
        xr.testing.assert_allclose(some, whole.drop_vars(rest), rtol=2e-5, atol=2e-6)
        assert {name.split("_")[0] for name in some.data_vars} == set(fields)


def test_a_window_of_the_decoder_runs_full_resolution_on_its_points_only():
    rom, _ = _rom(2, ("u",))
    seen = []
    decoder = rom.vae.decoder
    decoder.mean.smooth.register_forward_hook(lambda module, x, y: seen.append(tuple(x[0].shape[2:])))
    shape = decoder.mean.layout.shape
    with torch.no_grad():
        windowed(decoder, (slice(3, 5), slice(0, shape[1])))(torch.randn(2, 3))
    assert seen == [(2 + 2 * 2, shape[1])]  # two convolutions of three points see two points around it


@pytest.mark.parametrize("masked", [False, True])
def test_the_mean_alone_is_the_decoded_mean_of_the_networks_codes(masked):
    rom, data = _rom(1, ("u",))
    if masked:
        mask = np.ones(data.sizes["x"], bool)
        mask[4:9] = False
        rom.vae.decoder.mask = torch.from_numpy(mask)
    start = data.isel(time=0)
    found = rom.rollout(start, 4, propagation="mean")
    assert set(found.data_vars) - {"mask"} == {"u"}
    x, c = rom.normalised(start)
    with torch.no_grad():
        code = network_paths(rom.vae, rom.dynamics, x[:, -1], c, 4).mean(1)
        expected = rom.normaliser.inverse(rom.vae.decoder(code[3]).mean)[:, 0].numpy()
        first = moments(rom.vae.encoder(x[:, -1]))[0]
    inside = mask if masked else slice(None)
    np.testing.assert_allclose(found["u"].isel(time=3).values[:, inside], expected[:, inside], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["latent"].isel(time=0), first, rtol=1e-5, atol=1e-6)
    if masked:
        given = start["u"].values[:, None, ~mask].repeat(5, 1)
        np.testing.assert_array_equal(found["u"].values[..., ~mask], given)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"times": [0.37]}, r"time 0\.37 is none of the forecast's, which go from 0 to"),
        ({"times": [1e6]}, r"time 1e\+06 is none"),
        ({"times": [float("nan")]}, "time nan is none"),
        ({"times": []}, "times is empty"),
        ({"fields": ["w"]}, "there is no field 'w'. Choose from u"),
        ({"fields": []}, "fields is empty"),
        ({"region": {"y": (0, 1)}}, "there is no axis 'y' for a region. Choose from x"),
        ({"region": {"x": (50.0, 60.0)}}, "region x from 50 to 60 holds no grid point; the axis goes from"),
        ({"region": {"x": 0.3}}, "region x = 0.3, expected two ends"),
        ({"propagation": "sum"}, "propagation is 'sum', expected members, linear, mean or auto"),
        ({"propagation": "mean", "tolerance": 0.1}, "a trust horizon follows from the predicted error"),
        ({"fields": ["u"], "until": 0.1}, "a trust horizon follows from the predicted error"),
    ],
)
def test_what_is_not_of_the_forecast_is_refused(told, message):
    rom, data = _rom(1, ("u",))
    with pytest.raises(ConfigError, match=message):
        rom.rollout(data.isel(time=0), 4, **told)
