"""The kinds of parts that a model can be made of: names for settings, files and messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict

__all__ = [
    "DEFAULTS",
    "Choices",
    "Compile",
    "LOSS_DEFAULTS",
    "Compression",
    "DynamicsKind",
    "Fallback",
    "FinetuneKind",
    "LossChoices",
    "MEMORY",
    "ModelName",
    "ObjectiveKind",
    "ObservationKind",
    "OdeSolver",
    "PhysicsKind",
    "PosteriorKind",
    "Precision",
    "PriorKind",
    "STAGES",
    "Schedule",
    "TransitionKind",
    "UNTRAINED",
    "VarianceRule",
]

ModelName = Literal[
    "vae",
    "auto",
    "pod_network",
    "pod_linear",
    "pod_rbf",
    "pod_gp",
    "dmd",
    "opinf",
    "fno",
    "persistence",
    "climatology",
]
"""What is trained: the ROM with its autoencoder (`vae`) or with POD in its place (`pod_network`), a baseline
(`romvae.baselines`), or `auto`: all that apply, of which the one with the best forecasts of held-out trajectories is
kept."""

STAGES = ("vae", "variance", "dynamics", "finetune", "calibration")
"""The stages of a training in their order; `finetune` is left out where nothing asks for it."""

Compression = Literal["vae", "ae", "dae", "pod", "ppca"]
"""Variational, plain or denoising autoencoder, POD, probabilistic PCA; the last two are known in closed form."""

ObservationKind = Literal["gaussian", "bernoulli", "continuous_bernoulli"]
"""What the decoder says of a value; the last two are for fields in [0, 1]."""

VarianceRule = Literal["staged", "global", "faithful", "joint", "beta_nll", "student_t", "crps", "fixed"]
"""How a Gaussian decoder's variance is learned.

`staged`: a local one, on held-out trajectories after the mean; `student_t` and `crps` likewise with another score;
`global`: one per field; `faithful`, `joint`, `beta_nll`: a local one with the mean on the training trajectories;
`fixed`: given as `noise_std`.
"""

Precision = Literal["float32", "bf16"]
"""In which digits the convolutions of a training step compute; everything else is float32."""

Compile = Literal["off", "on", "auto"]
"""Whether `torch.compile` makes the networks of the first stage; `auto` measures, and does so where it pays."""

PosteriorKind = Literal["diagonal", "full", "flow"]
"""Distribution of the code of a snapshot: Gaussian with a diagonal or a full covariance, or a normalising flow."""

PriorKind = Literal["normal", "mixture", "flow"]
"""Distribution of the codes of all snapshots: standard normal, or learned."""


DynamicsKind = Literal["residual", "linear", "ode", "gru", "transformer", "gp", "fourier", "auto"]
"""Latent dynamics: residual network, least squares, neural ODE, recurrent network or transformer over the history,
linear dynamics interpolated over the parameters by a Gaussian process, Fourier neural operator on the coarse grid that
the codes span; `auto` tries them and picks by the forecasts of held-out trajectories."""

UNTRAINED = "untrained"
"""What dynamics starts from in closed form, beside names of kinds."""

MEMORY = ("gru", "transformer")
"""Latent dynamics that looks back on more than the present latent."""

TransitionKind = Literal["deterministic", "gaussian"]
"""Whether a step of the latent is a function, or draws noise of a learned width: for stochastic physics."""

OdeSolver = Literal["rk4", "adaptive"]
"""How a neural ODE is integrated: with a fixed step, or with an adaptive one (the extra `ode`)."""


class Choices(TypedDict, total=False):
    """What a model is made of.

    `noise_floor` is the least, `noise_std` the fixed standard deviation of the decoder, both as a fraction of each
    field's own; with `skip` the code enters every level of the decoder; `dropout` is the share of channels that are
    left out at random in training. `history` is the number of latents, a large step apart, that recurrent networks and
    transformers look back on. `given` is the number of fields, a large step apart, that every forecast is started from
    and that its calibration belongs to; more than one for dynamics that looks back on them only. With `linear_stable`,
    linear dynamics (`linear` and `gp`) does not grow: where a mode of its map would, it is scaled back.
    """

    compression: Compression
    observation: ObservationKind
    variance: VarianceRule
    noise_floor: float
    noise_std: float
    posterior: PosteriorKind
    prior: PriorKind
    skip: bool
    dropout: float
    dynamics: DynamicsKind
    transition: TransitionKind
    history: int
    given: int
    ode_solver: OdeSolver
    linear_stable: bool


ObjectiveKind = Literal["elbo", "beta", "free_bits", "capacity"]
"""How the divergence of the codes counts in training: see `romvae.objectives`."""

Fallback = Literal["auto", "never"]
"""What to do where held-out trajectories say that training did not improve on what is known in closed form: `auto` goes
back to POD in place of the autoencoder, and to linear dynamics in place of the network."""

FinetuneKind = Literal["none", "crps", "likelihood", "mse"]
"""What decoded rollouts are scored by in the optional stage after the dynamics: the almost-fair continuous ranked
probability score of the members, the negative log-likelihood, or the squared error of every member."""

PhysicsKind = Literal["none", "residual", "conserved"]
"""What is asked of decoded rollouts beside: that the residual of the equation is small, or that what it conserves does
not drift."""

Schedule = Literal["constant", "warmup", "cyclic"]
"""How the weight of the divergence reaches its value."""


class LossChoices(TypedDict, total=False):
    """What encoder and mean decoder are trained on, and what the latent dynamics is.

    `beta` and `beta_schedule` belong to the objective `beta`, `free_bits` (nats per latent) and `capacity` (nats) to
    the objectives of those names; `samples` is the number of codes per snapshot and step; `consistency` weighs the
    divergence between the codes of neighbouring times; `input_noise` is the noise that a denoising autoencoder
    removes, as a fraction of each field's own standard deviation.

    Of the dynamics: `latent_consistency` weighs the distance between a forecast code and the code of its decoded field;
    `ema` is the decay of a running average of the weights, which is kept in their place (0: none); `patience` is the
    number of evaluations on held-out trajectories without a better forecast after which training stops, with the best
    weights kept (0: neither evaluations nor stops).

    `fallback` is `auto` or `never`: see `Fallback`. The autoencoder is judged where it was trained on the bound for the
    sake of its mean, the dynamics where no later stage trains it.

    Of the stage after it, which runs where `finetune` or `physics` is not `none`: it takes `finetune_steps` steps on
    decoded rollouts of at least `finetune_members` members; with `finetune_decoder` the decoder's mean is trained too;
    `physics` is `residual`, `conserved`, or a function residual(fields, grid, parameters, dt) of physical fields (with
    `finetune="none"`, beside the squared error); `physics_weight` weighs it in units of its size at the start.
    """

    objective: ObjectiveKind
    beta: float
    beta_schedule: Schedule
    free_bits: float
    capacity: float
    samples: int
    consistency: float
    input_noise: float
    latent_consistency: float
    ema: float
    patience: int
    fallback: Fallback
    finetune: FinetuneKind
    finetune_steps: int
    finetune_members: int
    finetune_decoder: bool
    physics: PhysicsKind | Callable[..., Any]
    physics_weight: float


LOSS_DEFAULTS: dict[str, Any] = {
    "objective": "elbo",
    "beta": 1.0,
    "beta_schedule": "constant",
    "free_bits": 0.1,
    "capacity": 25.0,
    "samples": 1,
    "consistency": 0.0,
    "input_noise": 0.05,
    "latent_consistency": 0.0,
    "ema": 0.0,
    "patience": 0,
    "fallback": "auto",
    "finetune": "none",
    "finetune_steps": 300,
    "finetune_members": 4,
    "finetune_decoder": False,
    "physics": "none",
    "physics_weight": 0.1,
}
"""What encoder, mean decoder and dynamics are trained on where nothing was chosen."""

DEFAULTS: dict[str, Any] = {
    "compression": "vae",
    "observation": "gaussian",
    "variance": "staged",
    "noise_floor": 1e-3,
    "noise_std": 0.05,
    "posterior": "diagonal",
    "prior": "normal",
    "skip": False,
    "dropout": 0.0,
    "dynamics": "residual",
    "transition": "deterministic",
    "history": 4,
    "given": 1,
    "ode_solver": "rk4",
    "linear_stable": True,
}
"""What a model is where nothing was chosen."""
