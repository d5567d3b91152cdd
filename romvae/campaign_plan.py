"""What a campaign is asked for, and how it is kept: `campaign.json`, to which later calls are held."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from romvae.atomic import atomic_file
from romvae.errors import CheckpointError, ConfigError
from romvae.settings import ModelSettings, TrainingSettings

__all__ = ["PLAN", "Plan"]

PLAN = "campaign.json"
_DEFAULTS = {"model": ModelSettings().model_dump(), "training": TrainingSettings().model_dump()}


@dataclass(frozen=True)
class Plan:
    """What a campaign is asked for; without a case, `budget`, `initial` and `candidates` play no part.

    Arguments:
        case: Name of the case whose solver is called; None where simulations are made elsewhere.
        budget: Simulations in all, those for variance, calibration and test included.
        initial: Simulations to begin with, at least 8.
        batch: Simulations per round.
        candidates: Starts that every round chooses from, none of them simulated yet.
        seed: Seed of simulations, split, weights and training.
        model: Arguments of `ROM.for_data`.
        training: Arguments of `romvae.fit`.
    """

    case: str | None
    budget: int
    initial: int = 16
    batch: int = 4
    candidates: int = 256
    seed: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.case is None:
            if self.batch < 1:
                raise ConfigError(f"acquire: batch {self.batch}; expected 1 or more. Correct it.")
        elif self.initial < 8 or self.batch < 1 or self.budget < self.initial or self.candidates < self.batch:
            raise ConfigError(
                f"acquire: initial {self.initial}, batch {self.batch}, budget {self.budget}, candidates "
                f"{self.candidates}; expected initial of 8 or more, batch of 1 or more, a budget of at least initial "
                "and candidates of at least batch. Correct them."
            )

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan that a folder keeps; None where it holds no campaign.

        Raises:
            CheckpointError: It is damaged.
        """
        file = folder / PLAN
        if not file.exists():
            return None
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be read ({error}). Begin the campaign again.") from None

    def write(self, folder: Path) -> None:
        """Keeps the plan in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / PLAN, overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def stated(self) -> dict[str, Any]:
        """All of it as `continued` takes it: what is left to the defaults is said too."""
        return asdict(self) | {name: {**_DEFAULTS[name], **getattr(self, name)} for name in _DEFAULTS}

    def continued(self, given: Mapping[str, Any], folder: Path) -> Plan:
        """The plan to go on with: this one, with another budget where one is given.

        Arguments:
            given: What was given now, by name; `model` and `training` are mappings of single settings. What is left
                out stays as it is.
            folder: Of the campaign, for the message.

        Raises:
            ConfigError: Something other than the budget differs from this plan.
        """
        differing = list(self._differing(given))
        if differing:
            raise ConfigError(
                f"{folder}: holds a campaign with other settings than these: {', '.join(differing)}. Leave them out to "
                "go on with it (only the budget may change), or choose another --out."
            )
        return replace(self, budget=given.get("budget", self.budget))

    def _differing(self, given: Mapping[str, Any]) -> Iterator[str]:
        """Sentences on what differs; a setting that the file does not hold, such as a newer one, has its default."""
        for name, value in given.items():
            kept = getattr(self, name)
            if name in _DEFAULTS:
                kept = {**_DEFAULTS[name], **kept}
                for key, told in value.items():
                    if kept.get(key) != told:
                        yield f"{name}.{key} is {_word(kept.get(key))}, not {_word(told)}"
            elif name != "budget" and kept != value:
                yield f"{name} is {_word(kept)}, not {_word(value)}"


def _word(value: Any) -> str:
    return "left out" if value is None else str(value)
