"""One large step of a field as a Fourier neural operator, conditioned on parameters and lead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from romvae.errors import optional_import

__all__ = ["FourierStep", "Sizes", "tensors"]

LAYERS = 4
PADDING = 0.25


@dataclass(frozen=True)
class Sizes:
    """What the network is made of.

    Attributes:
        fields: Fields in and out.
        parameters: Physical parameters, a constant channel each.
        width: Channels of the Fourier layers.
        modes: Fourier modes per axis.
        periodic: Which axes are; the others are padded.
        masked: Whether the domain is a channel.
        learning_rate: What it is trained with.
    """

    fields: int
    parameters: int
    width: int
    modes: tuple[int, ...]
    periodic: tuple[bool, ...]
    masked: bool
    learning_rate: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "modes": list(self.modes), "periodic": list(self.periodic)}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Sizes:
        """The inverse of `to_dict`."""
        periodic = tuple(bool(p) for p in facts["periodic"])
        return cls(**{**facts, "modes": tuple(int(m) for m in facts["modes"]), "periodic": periodic})

    def check(self, fields: int, parameters: int, axes: int, stored: int) -> None:
        """Raises unless they fit the data, and no more weights are asked for than were stored.

        Raises:
            ValueError: They do not.
        """
        if (self.fields, self.parameters, len(self.modes), len(self.periodic)) != (fields, parameters, axes, axes):
            raise ValueError(
                f"the network has {self.fields} fields on {len(self.modes)} axes, the grid {fields}, {axes}"
            )
        if self.width > stored or min(self.modes) < 1 or max(self.modes) > stored:
            raise ValueError(f"width {self.width} and modes {self.modes} ask for more than the {stored} stored weights")


class FourierStep(nn.Module):
    r"""Step :math:`x(t + \tau s) = x(t) + F(x(t), c, \tau)` of normalised fields.

    Arguments:
        sizes: What it is made of.
        inside: Where the domain is, `(*space)`; outside of it fields stay zero.
    """

    def __init__(self, sizes: Sizes, inside: Tensor | None = None) -> None:
        super().__init__()
        neural_operators = optional_import("neuralop.models", "fno", "the baseline fno")
        self.inside = inside
        padding = [0.0 if periodic else PADDING for periodic in sizes.periodic]
        self.operator = neural_operators.FNO(
            n_modes=sizes.modes,
            in_channels=sizes.fields + sizes.parameters + 1 + int(sizes.masked),
            out_channels=sizes.fields,
            hidden_channels=sizes.width,
            n_layers=LAYERS,
            domain_padding=padding if any(padding) else None,
            positional_embedding=None if all(sizes.periodic) else "grid",
        )

    def forward(self, x: Tensor, c: Tensor, lead: Tensor) -> Tensor:
        """Fields `(batch, field, *space)` after a share `lead` `(batch,)` of a large step; `c` `(batch, parameter)`."""
        space = x.shape[2:]
        constants = torch.cat([c, lead[:, None]], 1)
        channels = [x, constants.reshape(*constants.shape, *[1] * len(space)).expand(-1, -1, *space)]
        if self.inside is None:
            return x + self.operator(torch.cat(channels, 1))
        channels.append(self.inside.to(x).expand(len(x), 1, *space))
        return (x + self.operator(torch.cat(channels, 1))) * self.inside


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Weights by name, without the note about itself that the library keeps among them."""
    return {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
