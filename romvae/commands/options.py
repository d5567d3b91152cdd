"""Options that several commands share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

__all__ = ["Config", "Members", "Out", "Overwrite", "Quiet", "Reader", "Seed"]

Out = Annotated[Path, Parameter(name=["--out", "-o"])]
Config = Annotated[Path | None, Parameter(name=["--config", "-c"], help="YAML file of settings; flags win over it.")]
Overwrite = Annotated[bool, Parameter(help="Replace an output that exists already.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show no progress.")]
Seed = Annotated[
    int,
    Parameter(help="Same seed, same machine and threads: same result.", validator=validators.Number(gte=0, lt=2**32)),
]
Members = Annotated[int, Parameter(help="Latent members per forecast.")]
Reader = Annotated[
    str | None,
    Parameter(help="Layout of the files (well, pdebench, ...) or a mapping file (.yaml); recognised if left out."),
]
