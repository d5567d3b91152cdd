"""What a report says of the choice of the model: among which it was made, why, and what a baseline has no part for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from romvae.kinds import UNTRAINED
from romvae.plot.style import baseline_title, plain
from romvae.report.reading import lookup, number, percent, seconds_text

__all__ = [
    "choice",
    "closed_form",
    "in_words",
    "is_baseline",
    "left_out_rows",
    "model_title",
    "possessive",
    "subject",
    "tried_rows",
]

_PROSE: Final[Mapping[str, str]] = {
    "vae": "the ROM with an autoencoder",
    "persistence": "persistence (the initial field, unchanged)",
    "climatology": "climatology (the mean of the training data)",
    "pod_linear": "POD with linear dynamics",
    "pod_linear_free": "POD with linear dynamics and a number of modes of its choice",
    "pod_rbf": "POD with radial basis functions over the parameters",
    "pod_gp": "POD with Gaussian processes over the parameters",
    "pod_network": "POD with network dynamics",
    "dmd": "dynamic mode decomposition",
    "opinf": "operator inference",
    "fno": "a Fourier neural operator",
    # Names in comparisons of earlier versions.
    "pod_interpolation": "POD with interpolation",
    "operator_inference": "operator inference",
}


def in_words(name: str) -> str:
    """A model in the middle of a sentence.

    >>> in_words("pod_rbf"), in_words("my_model")
    ('POD with radial basis functions over the parameters', 'my model')
    """
    return _PROSE.get(name, plain(name.replace("_", " ")))


def model_title(metrics: Mapping[str, Any]) -> str:
    """The model in a table or a legend: `ROM`, or the name of the baseline that stands in its place."""
    name = lookup(metrics, "model").get("name")
    return baseline_title(str(name)) if name else "ROM"


def is_baseline(metrics: Mapping[str, Any]) -> bool:
    """Whether a baseline stands in the ROM's place."""
    return bool(lookup(metrics, "model").get("name"))


def subject(metrics: Mapping[str, Any], *, first: bool = False) -> str:
    """The model in a sentence: `the ROM`, or the name of the baseline.

    Arguments:
        metrics: As in `metrics.json`.
        first: Whether the sentence begins with it.
    """
    if is_baseline(metrics):
        return model_title(metrics)
    return "The ROM" if first else "the ROM"


def possessive(metrics: Mapping[str, Any], *, first: bool = False) -> str:
    """Whose error it is; arguments as in `subject`."""
    who = subject(metrics, first=first)
    return f"{who}'" if who.endswith("s") else f"{who}'s"


def choice(metrics: Mapping[str, Any]) -> str:
    """Why this model and no other, and what it is if it is a baseline; empty for a ROM that was trained alone."""
    name = lookup(metrics, "model").get("name")
    ranked = [each for each in _entries(metrics) if math.isfinite(number(each, "relative_l2"))]
    what = f"The model is {in_words(str(name))}, one of the baselines" if name else ""
    if len(ranked) < 2:
        return what and f"{what}: it has no latent code, and what a code would tell is left out."
    first, second = ranked[:2]
    count = number(lookup(metrics, "ranking"), "trajectories")
    text = (
        f"{what or _model_is(first)}, chosen among {len(ranked)} models because its "
        f"forecasts of {count:.0f} other held-out trajectories had the smallest error, "
        f"{percent(number(first, 'relative_l2'))}; next came {in_words(str(second.get('name')))} with "
        f"{percent(number(second, 'relative_l2'))}."
    )
    return f"{text} It has no latent code: what a code would tell is left out." if name else text


def closed_form(metrics: Mapping[str, Any]) -> str:
    """What of the ROM is known in closed form because training did not improve on it; empty where nothing is."""
    kept = lookup(metrics, "kept")
    found, moved = lookup(kept, "compression"), lookup(kept, "dynamics")
    text = []
    if found.get("kept") == "pod" and "pod_forecast" in found:
        text.append(
            f"POD compresses the fields: on trajectories beside the training it is {_of(found, 'pod_error')} off and "
            f"the trained autoencoder {_of(found, 'error')}, but first forecasts (linear dynamics or a short training) "
            f"are {_of(found, 'pod_forecast')} off with its codes, {_of(found, 'forecast')} with those of the latter."
        )
    elif found.get("kept") == "pod":
        text.append(
            f"POD compresses the fields, because on trajectories beside the training it is {_of(found, 'pod_error')} "
            f"off and the trained autoencoder {_of(found, 'error')}."
        )
    scores = lookup(moved, "scores")
    other = next((name for name in scores if name not in ("linear", UNTRAINED)), "")
    best = "linear" if moved.get("kept") == "linear" else UNTRAINED
    form = "linear" if best == "linear" else "polynomial"
    if other and not moved.get("trained", best == UNTRAINED):
        text.append(
            f"The latent dynamics is {form}, because there its forecasts of the codes have a CRPS of "
            f"{percent(number(scores, best, 'crps'))} of the mean distance from the mean, and those of the trained "
            f"network {percent(number(scores, other, 'crps'))}."
        )
    return " ".join(text)


def _of(found: Mapping[str, Any], name: str) -> str:
    return percent(number(found, name))


def tried_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The models that were trained, best first, with error and seconds, or why they were left out."""
    entries = _entries(metrics)
    if len(entries) < 2:
        return []
    return [(baseline_title(str(each.get("name"))), _tried(each)) for each in entries]


def left_out_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which baselines and which measurements are missing, each with its reason."""
    rows = [(baseline_title(str(n)), str(why)) for n, why in lookup(metrics, "baselines_left_out").items()]
    for name, scores in lookup(metrics, "baselines").items():
        if isinstance(scores, Mapping) and scores.get("diverged"):
            rows.append((f"{baseline_title(str(name))}, its errors", str(scores["diverged"])))
    broken = lookup(lookup(metrics, "rom"), "diverged")
    if broken:
        rows.insert(0, (f"{model_title(metrics)}, its errors", str(broken.get("reason"))))
    return rows + [(str(n), str(why)) for n, why in lookup(lookup(metrics, "model"), "not_measured").items()]


def _entries(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = lookup(metrics, "ranking").get("entries") or ()
    return [each for each in found if isinstance(each, Mapping)]


def _model_is(entry: Mapping[str, Any]) -> str:
    return f"The model is {in_words(str(entry.get('name')))}"


def _tried(entry: Mapping[str, Any]) -> str:
    error = number(entry, "relative_l2")
    if not math.isfinite(error):
        return f"left out: {entry.get('reason')}"
    cost = lookup(entry, "cost")
    parts = [f"{name} {seconds_text(number(cost, name))}" for name in cost if name != "forecasts"]
    spent = f" ({', '.join(parts)})" if len(parts) > 1 else ""
    return f"{percent(error)}, {seconds_text(number(entry, 'seconds'))} of process time{spent}"
