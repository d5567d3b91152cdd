"""What a user can set, each once: flags, YAML keys, ranges, help and the JSON schema all come from here.

`None` means "chosen from the data". A YAML file has the same shape as the classes:

```yaml
seed: 0
model:
  latent: 16
training:
  device: cpu
```
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from romvae.errors import ConfigError
from romvae.kinds import (
    Compile,
    Compression,
    DynamicsKind,
    Fallback,
    FinetuneKind,
    ModelName,
    ObjectiveKind,
    ObservationKind,
    OdeSolver,
    PhysicsKind,
    PosteriorKind,
    Precision,
    PriorKind,
    Schedule,
    TransitionKind,
    VarianceRule,
)

__all__ = [
    "ModelSettings",
    "Settings",
    "SimulateSettings",
    "SplitSettings",
    "TrainSettings",
    "TrainingSettings",
    "WatchSettings",
    "describe_errors",
    "example_yaml",
    "to_yaml",
    "validated",
]


class Settings(BaseModel):
    """Base of all settings: unknown keys, non-finite numbers and booleans in place of numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_numbers(cls, data: Any) -> Any:
        # YAML reads `yes` and `on` as booleans, and pydantic would take them for the number 1.
        for key, value in data.items() if isinstance(data, Mapping) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                raise ValueError(f"{key} = {value}: should not be a yes/no value")
        return data

    def chosen(self) -> dict[str, Any]:
        """The settings that are not left to the data, ready to be passed on as keyword arguments."""
        return {name: value for name, value in self if value is not None}


class ModelSettings(Settings):
    """The networks: arguments of `ROM.for_data`, and what is trained at all; a single word is the latter."""

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    kind: ModelName = Field(
        "vae", description="what is trained: the ROM, a baseline, or auto: all that apply, and the best one is kept"
    )
    latent: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] | None = Field(
        None, description="size of the latent code; auto finds it by two or three trainings of encoder and decoder"
    )
    patch: int | None = Field(None, ge=1, le=64, description="grid points per axis that the stem merges into one")
    channels: int | None = Field(None, ge=1, le=4096, description="channels of the convolutional trunk")
    blocks: int | None = Field(None, ge=0, le=64, description="residual blocks per level")
    expand: int | None = Field(
        None, ge=0, le=16384, description="width of the fully connected layers behind the code; 0 leaves them out"
    )
    hidden: int | None = Field(None, ge=1, le=16384, description="width of the latent dynamics")
    depth: int | None = Field(None, ge=1, le=64, description="hidden layers of the latent dynamics")
    stride: int | None = Field(
        None, ge=1, le=10**6, description="stored steps in the largest step of the latent dynamics"
    )
    members: int = Field(4, ge=1, le=64, description="networks in the ensemble of latent dynamics")
    noise_floor: float = Field(
        1e-3, gt=0, le=1, description="least standard deviation of the decoder, in units of each field's own"
    )
    compression: Compression = Field(
        "vae", description="variational, plain or denoising autoencoder, POD, or probabilistic PCA"
    )
    observation: ObservationKind = Field(
        "gaussian", description="what the decoder says of a value; the others are for fields in [0, 1]"
    )
    variance: VarianceRule = Field("staged", description="how a Gaussian decoder's variance is learned")
    noise_std: float = Field(
        0.05, gt=0, le=10, description="standard deviation for variance: fixed, in units of each field's own"
    )
    posterior: PosteriorKind = Field("diagonal", description="distribution of a code")
    prior: PriorKind = Field("normal", description="distribution of all codes")
    skip: bool = Field(False, description="whether the code enters every level of the decoder")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of channels left out at random in training")
    dynamics: DynamicsKind = Field(
        "residual",
        description="latent dynamics; fourier for many codes; auto picks by the forecasts of held-out trajectories",
    )
    transition: TransitionKind = Field(
        "deterministic", description="whether a step draws noise of a learned width, for stochastic physics"
    )
    history: int = Field(4, ge=1, le=256, description="latents that dynamics gru and transformer look back on")
    given: int = Field(
        1,
        ge=1,
        le=256,
        description="fields, a large step apart, that forecasts start from; more than one for gru, transformer or auto",
    )
    ode_solver: OdeSolver = Field("rk4", description="for dynamics: ode; adaptive needs the extra ode")
    linear_stable: bool = Field(True, description="whether dynamics linear and gp are kept from growing")

    def chosen(self) -> dict[str, Any]:
        """The settings of the networks that are not left to the data."""
        return {name: value for name, value in super().chosen().items() if name != "kind"}


class TrainingSettings(Settings):
    """The optimisation: arguments of `romvae.fit`, and of `romvae.fit_model`."""

    budget: float | None = Field(
        None,
        gt=0,
        le=1e8,
        description="seconds of process time per model, for kinds other than vae; None: the ROM's own",
    )
    vae_steps: int | None = Field(None, ge=1, le=10**8, description="steps for encoder and mean decoder")
    variance_steps: int | None = Field(None, ge=1, le=10**8, description="steps for the local variance")
    dynamics_steps: int | None = Field(None, ge=1, le=10**8, description="steps for the latent dynamics")
    learning_rate: float | None = Field(None, gt=0, le=1, description="largest step size of the optimiser")
    batch_size: int | None = Field(None, ge=1, le=65536, description="snapshots, or windows, per step")
    horizon: int | None = Field(None, ge=1, le=10000, description="longest window of the dynamics, in time steps")
    objective: ObjectiveKind = Field("elbo", description="how the divergence of the codes counts")
    beta: float = Field(1.0, ge=0, le=1e6, description="weight of the divergence, for objective: beta")
    beta_schedule: Schedule = Field("constant", description="how beta reaches its value")
    free_bits: float = Field(
        0.1, ge=0, le=100, description="free divergence per latent in nats, for objective: free_bits"
    )
    capacity: float = Field(25.0, ge=0, le=1e6, description="divergence to hold in nats, for objective: capacity")
    samples: int = Field(1, ge=1, le=1024, description="samples of the code per snapshot and step")
    consistency: float = Field(
        0.0, ge=0, le=1e6, description="weight of the divergence between the codes of neighbouring times"
    )
    input_noise: float = Field(
        0.05, ge=0, le=10, description="noise on the input, for compression: dae, in units of each field's own"
    )
    latent_consistency: float = Field(
        0.0, ge=0, le=1e6, description="weight of the distance between forecast codes and those of their fields"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the average of the dynamics' weights; 0 for none")
    patience: int = Field(
        0, ge=0, le=10**6, description="evaluations of the forecast without progress that end the dynamics; 0 for none"
    )
    fallback: Fallback = Field(
        "auto", description="whether POD and linear dynamics take over where training did not improve on them"
    )
    finetune: FinetuneKind = Field("none", description="score of decoded rollouts to fine-tune on, after the dynamics")
    finetune_steps: int = Field(300, ge=1, le=10**8, description="steps of the fine-tuning")
    finetune_members: int = Field(4, ge=1, le=64, description="members of the rollouts in fine-tuning, 4 to 8")
    finetune_decoder: bool = Field(False, description="whether fine-tuning trains the decoder's mean too")
    physics: PhysicsKind = Field("none", description="what decoded rollouts are held to, in a fine-tuning")
    physics_weight: float = Field(
        0.1, gt=0, le=1e6, description="weight of the physics, in units of its size at the start of the fine-tuning"
    )
    augment: Literal["auto", "none"] = Field("auto", description="symmetric copies where grid and boundary allow")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    devices: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="processes on each machine that share every batch: GPUs, or shares of its cores",
    )
    nodes: int | None = Field(
        None, ge=1, le=100000, description="machines; more than one are started by srun or torchrun"
    )
    precision: Precision = Field("float32", description="of the convolutions of a training step; the rest is float32")
    compile: Compile = Field(
        "off",
        description="whether torch.compile makes the networks of the first stage; auto: where a measurement says so",
    )
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; another number gives other weights")
    memory_budget: float | None = Field(
        None, gt=0, le=1e6, description="GB that the training data may take; larger data are read in blocks"
    )

    def chosen(self) -> dict[str, Any]:
        """The settings of the optimisation that are not left to the data."""
        return {name: value for name, value in super().chosen().items() if name != "budget"}


class WatchSettings(Settings):
    """What is recorded beside the result, in the folder `watch` of the run; it does not change the weights."""

    every: int | None = Field(
        None, ge=1, le=10**8, description="training steps between two validations; null: nothing is recorded"
    )
    images: bool = Field(True, description="whether to draw reconstructions and prior samples at every validation")
    keep: int = Field(1, ge=0, le=1000, description="how many of the weights with the best validation bound to keep")
    tensorboard: bool = Field(
        False, description="whether to log for TensorBoard, not as CSV; needs pip install 'romvae[tensorboard]'"
    )

    @model_validator(mode="after")
    def _recorded(self) -> WatchSettings:
        if self.tensorboard and self.every is None:
            raise ValueError("watch.tensorboard records nothing without watch.every: give that too, such as 200")
        return self


class SplitSettings(Settings):
    """Shares of the trajectories; where the data have a split of their own, that is used and these stay as they are."""

    train: float = Field(0.5, gt=0, lt=1, description="share that the mean and the dynamics are fitted on")
    variance: float = Field(0.15, gt=0, lt=1, description="share that the local variance is fitted on")
    calibration: float = Field(0.15, gt=0, lt=1, description="share that intervals and the trust horizon rest on")
    test: float = Field(0.2, gt=0, lt=1, description="share that only a comparison sees")

    @model_validator(mode="after")
    def _whole(self) -> SplitSettings:
        total = self.train + self.variance + self.calibration + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"split: shares sum to {total:.6g} (train {self.train:g}, variance {self.variance:g}, calibration "
                f"{self.calibration:g}, test {self.test:g}), should sum to 1: change another one too"
            )
        return self

    def chosen(self) -> dict[str, Any]:
        """As arguments of `romvae.split`; none where the shares are the usual ones."""
        return {} if self == SplitSettings() else {"fractions": super().chosen()}


class TrainSettings(Settings):
    """Everything that `romvae train` can be told."""

    seed: int = Field(0, ge=0, lt=2**32, description="seed of the split, the initial weights and the training")
    split: SplitSettings = Field(SplitSettings(), description="what the trajectories are for")
    model: ModelSettings = Field(ModelSettings(), description="the networks")
    training: TrainingSettings = Field(TrainingSettings(), description="the optimisation")
    watch: WatchSettings = Field(WatchSettings(), description="what is recorded beside the result")


class SimulateSettings(Settings):
    """Everything that `romvae simulate` can be told."""

    case: str | None = Field(None, min_length=1, description="name of a case; romvae simulate --list shows them")
    n: int | None = Field(None, ge=1, le=10**7, description="number of trajectories")
    seed: int = Field(0, ge=0, lt=2**32, description="trajectory i depends on (seed, i) only")
    workers: int | None = Field(None, ge=1, le=4096, description="processes; the result is the same for any number")
    design: Literal["random", "grid", "latin_hypercube", "sobol"] = Field(
        "random", description="how parameters are placed in their ranges; sobol is balanced best for n a power of 2"
    )
    scheduler: str | None = Field(
        None, min_length=1, description="address of a Dask scheduler, or local; needs pip install 'romvae[dask]'"
    )
    error_estimate: bool = Field(True, description="whether to solve a few trajectories finer, for an error bar")
    skip_failed: bool = Field(False, description="whether to write the store without trajectories that failed")


AnySettings = TypeVar("AnySettings", bound=Settings)


def validated(
    cls: type[AnySettings],
    data: Mapping[str, Any],
    source: str = "",
    marks: Mapping[tuple[str, ...], tuple[int, int]] | None = None,
) -> AnySettings:
    """`data` as settings of type `cls`.

    Arguments:
        cls: class of the settings.
        data: nested mapping, as read from a YAML file.
        source: name of the file, for messages.
        marks: line and column of each key, for messages.

    Raises:
        ConfigError: naming file, line, column, key, value and what was expected; with a suggestion for a
            misspelt key.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise ConfigError(describe_errors(error, cls, source, marks or {})) from None


def describe_errors(
    error: ValidationError,
    cls: type[BaseModel],
    source: str = "",
    marks: Mapping[tuple[str, ...], tuple[int, int]] | None = None,
    flags: bool = False,
) -> str:
    """All that is wrong in one line, such as `rom.yaml:3:3: model.latent = 0: should be greater than 1`.

    With `flags`, keys are written as on the command line: `--model.latent`.
    """
    sentences = []
    items = error.errors(include_url=False)
    # Of a number or one word, each has an error of its own: the words are told with that of the number.
    words = {item["loc"][:-1]: item.get("ctx", {}).get("expected") for item in items if _is_word(item["loc"])}
    for item in items:
        path = tuple(str(part) for part in item["loc"])
        if _is_word(item["loc"]):
            continue
        if path and path[-1] == "constrained-int":
            path = path[:-1]
        key = f"--{'.'.join(path)}".replace("_", "-") if flags and path else ".".join(path)
        line = (marks or {}).get(path)
        where = ":".join([source, *map(str, line or ())]) if source else ""
        if item["type"] == "extra_forbidden":
            what = f"{key}: unknown setting{_suggestion(path, cls)}"
        else:
            reason = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
            if item["type"] in ("int_parsing", "int_type", "int_from_float"):
                reason = "should be a whole number"
            if item["loc"][:-1] in words:
                reason += f", or {words[item['loc'][:-1]]}"
            what = (
                f"{key} = {_brief(item['input'])}: {reason}" if key and not isinstance(item["input"], dict) else reason
            )
        sentences.append(f"{where}: {what}" if where else what)
    return "; ".join(sentences)


def _is_word(loc: tuple[Any, ...]) -> bool:
    """Whether an error is about the word of a setting that is a number or one word."""
    return bool(loc) and str(loc[-1]).startswith("literal[")


def _brief(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."


def _suggestion(path: tuple[str, ...], cls: type[BaseModel]) -> str:
    known = {".".join(name): name[-1] for name, _, _ in _walk(cls)}
    same_name = [dotted for dotted, last in known.items() if last == path[-1]]
    near = same_name or difflib.get_close_matches(".".join(path), known, n=1, cutoff=0.6)
    if not near:
        close = difflib.get_close_matches(path[-1], known.values(), n=1, cutoff=0.6)
        near = [dotted for dotted, last in known.items() if last in close]
    return f"; did you mean {near[0]}?" if near else "; romvae config --example lists all settings"


def _walk(cls: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """Path, field and whether it is a section, for every field of nested settings."""
    for name, field in cls.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield (*above, name), field, True
            yield from _walk(kind, (*above, name))
        else:
            yield (*above, name), field, False


def to_yaml(settings: Settings, title: str = "") -> str:
    """All settings, defaults included, as YAML that reads back to the same settings."""
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"# {title}\n{text}" if title else text


def example_yaml(cls: type[Settings]) -> str:
    """A commented YAML with every setting at its default; it reads back to the defaults."""
    lines = [f"# {(cls.__doc__ or '').splitlines()[0]} null: chosen from the data."]
    for path, field, section in _walk(cls):
        indent = "  " * (len(path) - 1)
        if section:
            lines += [f"{indent}{path[-1]}:  # {field.description}"]
        else:
            value = yaml.safe_dump(field.default).removesuffix("...\n").strip()
            lines += [f"{indent}{path[-1]}: {value}  # {field.description}{_range(field)}"]
    return "\n".join(lines) + "\n"


def _range(field: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return f" ({', '.join(bounds)})" if bounds else ""
