"""Back to what is known in closed form, where held-out trajectories say that training did not improve on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from romvae.latent.activity import reconstruction_error
from romvae.nn.linear import LinearEncoder
from romvae.nn.posterior import LOG_VAR_RANGE, PointPosterior
from romvae.ranks import ALONE, Ranks
from romvae.training.dynamics import Codes, DynamicsPlan, forecast_score, train_dynamics
from romvae.training.selection import trial
from romvae.vae import VAE

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["LinearCompression", "better_of_two_dynamics", "decisions", "may_be_linear", "may_be_pod"]

logger = logging.getLogger("romvae.training")

ENOUGH = 4
"""With fewer held-out trajectories nothing is decided, and what was trained stays."""
SNAPSHOTS = 512
_PROFILED = ("staged", "global", "student_t", "crps")
"""Rules for the variance under which the mean can be exchanged on its own."""


def may_be_pod(rom: ROM, terms: Mapping[str, Any], held: int) -> bool:
    """Whether POD may take the place of the trained autoencoder: where training asked for no more than a good mean.

    Arguments:
        rom: Its kinds of parts.
        terms: All of `LossChoices`.
        held: Held-out trajectories.
    """
    told = rom.choices
    plain = told["observation"] == "gaussian" and told["variance"] in _PROFILED and told["prior"] == "normal"
    asked = terms["objective"] == "elbo" and not terms["consistency"]
    return terms["fallback"] == "auto" and plain and asked and held >= ENOUGH


def may_be_linear(rom: ROM, terms: Mapping[str, Any], held: int) -> bool:
    """Whether linear dynamics may take the place of the trained one: where nothing is trained on its weights later.

    Arguments:
        rom: Its kinds of parts.
        terms: All of `LossChoices`.
        held: Held-out trajectories.
    """
    own = rom.choices["transition"] == "deterministic" and not rom.dynamics.closed_form
    asked = terms["finetune"] == "none" and terms["physics"] == "none" and not terms["latent_consistency"]
    return terms["fallback"] == "auto" and own and asked and held >= ENOUGH


def decisions(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What the notes of a history say of it, for a report: under `compression` and `dynamics`, where it was decided."""
    names = {"compression": "compression", "dynamics": "dynamics_kept"}
    return {part: dict(notes[name]) for part, name in names.items() if name in notes}


@dataclass(frozen=True)
class LinearCompression:
    """The POD that an autoencoder begins as, to go back to.

    Arguments:
        encoder: Weights of the encoder before training.
        decoder: Weights of the mean decoder.
    """

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]

    @classmethod
    def of(cls, rom: ROM) -> LinearCompression | None:
        """That of an untrained ROM; None for models that are linear for good, or have no linear path."""
        encoder, decoder = rom.vae.encoder, rom.vae.decoder.mean
        if isinstance(encoder, LinearEncoder) or encoder.linear is None or decoder.linear is None:
            return None
        start = cls(_copy(encoder), _copy(decoder))
        for name in ("weight", "bias"):  # data of fewer modes: codes beyond them started at random, and POD has none
            start.encoder[f"linear.{name}"][encoder.rank :] = 0.0
        start.decoder["linear.weight"][:, encoder.rank :] = 0.0
        return start

    @torch.no_grad()
    def keep_better(self, vae: VAE, held: Tensor, ranks: Ranks = ALONE) -> dict[str, Any]:
        """Puts POD back in place where it reconstructs held-out snapshots better than what was trained.

        The posterior then is as narrow as that of plain POD, since what POD leaves out lies beside its modes.

        Arguments:
            vae: Trained.
            held: Normalised snapshots that it was not trained on, `(sample, channel, *space)`.
            ranks: Processes that train; all do the same.

        Returns:
            Notes: which was kept, and the root mean square error of both per normalised value.
        """
        some = held[:: -(-len(held) // SNAPSHOTS)].to(next(vae.parameters()).device)
        trained = (_copy(vae.encoder), _copy(vae.decoder.mean))
        error = reconstruction_error(vae, some)
        self._put(vae, self.encoder, self.decoder)
        linear = reconstruction_error(vae, some)
        better = ranks.once(lambda: linear < error)
        if better:
            _narrow(vae)
            logger.warning(
                "new snapshots: the trained autoencoder is %.3g of the fields' deviations off, POD with %d modes %.3g; "
                "POD is kept",
                error,
                vae.latent,
                linear,
            )
        else:
            self._put(vae, *trained)
        return {"kept": "pod" if better else "network", "error": error, "pod_error": linear}

    @staticmethod
    def _put(vae: VAE, encoder: dict[str, Tensor], decoder: dict[str, Tensor]) -> None:
        vae.encoder.load_state_dict(encoder)
        vae.decoder.mean.load_state_dict(decoder)


def better_of_two_dynamics(
    rom: ROM, codes: Codes, held: Codes, precision: Tensor, plan: DynamicsPlan, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Installs linear dynamics, by least squares on the same codes, where its forecasts of held-out trajectories win.

    The score is that of `choose_dynamics`.

    Arguments:
        rom: With trained dynamics.
        codes: Of the training trajectories.
        held: Of others.
        precision: As in `DynamicsStage`.
        plan: Of the training.
        ranks: Processes that train; all do the same.

    Returns:
        Notes: which kind was kept, and the scores of both.
    """
    linear, kind = trial(rom, "linear"), str(rom.choices["dynamics"])
    train_dynamics(linear, codes, precision, plan, lambda *_: None)
    scores = {kind: forecast_score(rom.dynamics, held, precision, plan.seed, ranks)}
    scores["linear"] = forecast_score(linear, held, precision, plan.seed, ranks)
    if ranks.once(lambda: scores["linear"].crps < scores[kind].crps):
        rom.dynamics = linear
        rom.choices["dynamics"] = "linear"
        logger.warning(
            "forecasts of new trajectories: the crps of %s dynamics is %.3g, that of linear ones %.3g, which are kept",
            kind,
            scores[kind].crps,
            scores["linear"].crps,
        )
    return {"kept": rom.choices["dynamics"], "scores": {name: vars(score) for name, score in scores.items()}}


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone().cpu() for name, value in module.state_dict().items()}


def _narrow(vae: VAE) -> None:
    """Makes the posterior as narrow as it gets: a projection is known exactly where the snapshot is."""
    encoder = vae.encoder
    if isinstance(encoder, LinearEncoder) or isinstance(encoder.posterior, PointPosterior):
        return
    last, latent = encoder.head[-1], vae.latent
    if isinstance(last, nn.Linear):
        last.weight[latent : 2 * latent].zero_()
        last.bias[latent : 2 * latent] = LOG_VAR_RANGE[0]
