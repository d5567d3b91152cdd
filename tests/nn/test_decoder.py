"""Where POD was put in the decoder's place, the network is not computed, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from romvae.nn import FieldDecoder, Layout


@pytest.mark.parametrize("smooth", [0, 2])
def test_a_kept_pod_is_decoded_by_its_modes_alone(smooth, monkeypatch) -> None:
    layout = Layout.for_grid(2, (24, 30), (("periodic", "periodic"), ("wall", "wall")), 3, channels=4, blocks=1)
    decoder = FieldDecoder(layout, smooth=smooth)
    g = torch.Generator().manual_seed(0)
    for parameter in decoder.parameters():
        parameter.data.normal_(generator=g)
    modes = torch.linalg.qr(torch.randn(layout.points, 3, generator=g))[0].T
    z = torch.randn(5, 3, generator=g)
    decoder.become_pod(torch.randn(layout.points, generator=g), modes, torch.rand(3, generator=g))
    trained = decoder(z)  # with gradients, every part takes part
    calls = []
    trunk = FieldDecoder.trunk
    monkeypatch.setattr(FieldDecoder, "trunk", lambda self, z: (calls.append(1), trunk(self, z))[1])
    with torch.no_grad():
        assert torch.equal(decoder(z), trained)
        assert not calls
        _, slope = torch.func.jvp(decoder, (z,), (torch.ones_like(z),))
        assert not calls
        torch.testing.assert_close(slope, decoder(z + 1) - decoder(z), rtol=1e-4, atol=1e-4)
        last = (decoder.head if decoder.smooth is None else decoder.smooth[-1]).conv
        last.bias[0] = 0.5  # what was trained on after all
        assert not torch.equal(decoder(z), trained)
    assert calls
