"""What the latent space of a ROM looks like: how many latents are in use, what each does, what is foreign to it.

Every function takes a ROM and canonical snapshots and returns xarray with coordinates and units; the functions of
`romvae.plot` of the same names draw it.

```python
rom = romvae.ROM.load("runs/burgers_1d/model")
found = romvae.latent.activity(rom, parts.test)          # KL and ablation gain per latent, which are active
fields = romvae.latent.traverse(rom, one_snapshot)       # one latent moved at a time
romvae.plot.traversal(fields, "u").savefig("latents.png")
```

How many latents data need is answered by `romvae.suggest_latent`, or by `latent: auto` in the settings.
"""

from romvae.latent.activity import Activity, activity, activity_of, advice_of, reconstruction_error, warnings_of
from romvae.latent.bound import HeldOutBound, held_out_bound
from romvae.latent.dimension import LatentSize, bounds_of, intrinsic_dimension, pod_curve, search
from romvae.latent.explore import (
    interpolate,
    interpolation_error,
    manifold,
    neighbourhood,
    project,
    reconstruct,
    sample_prior,
    traverse,
)
from romvae.latent.summary import latent_summary
from romvae.latent.typicality import Typicality

__all__ = [
    "Activity",
    "HeldOutBound",
    "LatentSize",
    "Typicality",
    "activity",
    "activity_of",
    "advice_of",
    "bounds_of",
    "held_out_bound",
    "interpolate",
    "interpolation_error",
    "intrinsic_dimension",
    "latent_summary",
    "manifold",
    "neighbourhood",
    "pod_curve",
    "project",
    "reconstruct",
    "reconstruction_error",
    "sample_prior",
    "search",
    "traverse",
    "warnings_of",
]
