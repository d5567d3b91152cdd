"""`romvae config`: the settings file explained, checked and completed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from romvae.errors import ConfigError
from romvae.settings import Settings, SimulateSettings, TrainSettings, example_yaml, to_yaml
from romvae.settings_file import load_settings

__all__ = ["config"]

_SETTINGS: dict[str, type[Settings]] = {"train": TrainSettings, "simulate": SimulateSettings}


def config(
    command: Literal["train", "simulate"] = "train",
    /,
    *,
    example: Annotated[bool, Parameter(name="--example")] = False,
    schema: Annotated[bool, Parameter(name="--schema")] = False,
    print_file: Annotated[Path | None, Parameter(name="--print")] = None,
) -> None:
    """Show the settings of a command.

    Arguments:
        command: whose settings.
        example: a commented YAML file with every setting at its default.
        schema: JSON schema, which editors use to check and complete the file.
        print_file: check this YAML file and show it with all defaults filled in.
    """
    if example + schema + (print_file is not None) != 1:
        raise ConfigError("expected one of --example, --schema or --print FILE.")
    cls = _SETTINGS[command]
    if schema:
        print(json.dumps(cls.model_json_schema(), indent=2))
    elif print_file is not None:
        print(to_yaml(load_settings(cls, print_file)), end="")
    else:
        print(example_yaml(cls), end="")
