"""Baselines that `romvae train --model auto` has fitted for a run, kept in its folder for comparisons."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from romvae.commands.run_folder import RunFolder

if TYPE_CHECKING:
    import xarray as xr

    from romvae.baselines import Baseline
    from romvae.candidates import Ranking

__all__ = ["KeptBaselines", "keep_baselines", "kept_baselines"]


@dataclass
class KeptBaselines:
    """Fitted baselines of a run.

    Attributes:
        fitted: By the name that they have in a comparison.
        seconds: Process seconds that their training took.
    """

    fitted: dict[str, Baseline] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def asked(self, words: Sequence[str] | None) -> list[Baseline | str]:
        """What is compared: names, and fitted baselines in the place of theirs.

        Arguments:
            words: Names, `cheap` or `all`; None takes the cheap ones and all that were kept.
        """
        from romvae.baselines.selection import baseline_names

        names = baseline_names(["cheap"] if words is None else words)
        names += [name for name in self.fitted if words is None and name not in names]
        return [self.fitted.get(name, name) for name in names]


def keep_baselines(run: RunFolder, ranking: Ranking) -> None:
    """Moves the candidates that were fitted, but not chosen, out of their folder; an autoencoder is no baseline."""
    for entry in ranking.entries:
        model, place = run.candidates / entry.name / "model", run.baselines / entry.name
        if model.is_dir() and entry.name not in (ranking.chosen, "vae") and not place.exists():
            place.parent.mkdir(exist_ok=True)
            shutil.move(model, place)


def kept_baselines(run: RunFolder, train: xr.Dataset) -> KeptBaselines:
    """The baselines of a run that tried several models; none for others.

    Arguments:
        run: The run.
        train: What it was trained on.
    """
    kept = KeptBaselines()
    if not run.baselines.is_dir():
        return kept
    from romvae.baselines.fitted import Fitted
    from romvae.baselines.model import BaselineModel, load_model
    from romvae.baselines.pod_network import PODNetwork

    costs = {each["name"]: each.get("cost", {}) for each in (run.ranking() or {}).get("entries", ())}
    for folder in sorted(run.baselines.iterdir()):
        model = load_model(folder)
        found = model.baseline if isinstance(model, BaselineModel) else PODNetwork.of(model, train)
        # A candidate chooses its number of modes; `pod_linear` of a comparison has the ROM's.
        name = "pod_linear_free" if folder.name == "pod_linear" else folder.name
        kept.fitted[name] = Fitted(found, name)
        kept.seconds[name] = float(costs.get(folder.name, {}).get("training", 0.0))
    return kept
