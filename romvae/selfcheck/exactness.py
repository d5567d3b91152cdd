"""Exactness: continuation, determinism, saving, and what must stay constant in long runs."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from romvae.selfcheck.child import forked, interpreter, romvae
from romvae.selfcheck.hooks import FAILPOINTS, at_step, kill
from romvae.selfcheck.record import Case, require
from romvae.selfcheck.workshop import Workshop, weights

__all__ = ["exactness_cases"]


def exactness_cases(shop: Workshop, quick: bool) -> list[Case]:
    """One case per random kill point, and one per law."""
    rng = random.Random(0)  # noqa: S311
    kills = []
    for number in range(5 if quick else 50):
        failpoint = FAILPOINTS[0] if number % 2 == 0 else rng.choice(FAILPOINTS[1:])
        kills.append(_kill_case(shop, number, failpoint, rng.random()))
    rollouts, opens, steps = (60, 40, 10_000) if quick else (200, 200, 100_000)
    same = "the weights have the same SHA-256"
    return [
        *kills,
        Case("same seed", "the same training in another process", same, lambda: _repeated(shop, quick)),
        Case("other seed", "the same training with another seed", "the weights differ", lambda: _other_seed(shop)),
        Case("extra randomness", "torch.rand between steps", same, lambda: _disturbed(shop)),
        Case("evaluation", "forecasts and losses computed between steps", same, lambda: _evaluated(shop)),
        Case("logging", "progress shown, states seldom written", same, lambda: _logged(shop)),
        Case("save and load", "save, load, forecast", "bit-equal weights and forecast", lambda: _kept(shop)),
        Case("memory", f"{rollouts} rollouts", "under 0.05 MB more per rollout", lambda: _memory(shop, rollouts)),
        Case("file handles", f"{opens} opens of each format", "as many open as before", lambda: _handles(shop, opens)),
        Case("long run", f"{steps} latent steps", "finite, or the step named", lambda: _long(shop, steps)),
    ]


def _kill_case(shop: Workshop, number: int, failpoint: str, place: float) -> Case:
    def run() -> str:
        nth = int(place * shop.passed[failpoint])
        out = shop.new() / "run"
        ended = shop.train(out, hook=at_step(nth, kill, failpoint))
        require(ended.code == -signal.SIGKILL, f"the kill did not happen: {ended.brief}")
        shop.resumes_exactly(out)
        shutil.rmtree(out)
        return f"before {failpoint} {nth} of {shop.passed[failpoint]}"

    what = "a training step" if failpoint == "step" else f"a {failpoint} to the disk"
    return Case(f"kill {number + 1}", f"kill -9 before {what}", "continues to the bit", run)


def _same(shop: Workshop, hook: Callable[[], None] | None = None, *more: object) -> None:
    out = shop.new() / "run"
    ended = shop.train(out, *more, hook=hook)
    require(ended.code == 0, ended.brief)
    require(weights(out) == weights(shop.run), "the weights differ")


def _repeated(shop: Workshop, quick: bool) -> str:
    _same(shop)
    if quick:
        return "in a forked process"
    out = shop.new() / "run"
    done = interpreter("-m", "romvae", *shop.training(out))
    require(done.returncode == 0, done.stderr[-300:])
    require(weights(out) == weights(shop.run), "the weights differ in a new interpreter")
    return "in a forked process and in a new interpreter"


def _other_seed(shop: Workshop) -> str:
    out = shop.new() / "run"
    ended = shop.train(out, "--seed", 1)
    require(ended.code == 0, ended.brief)
    require(weights(out) != weights(shop.run), "the weights do not depend on the seed")
    return ""


def _before_each_step(action: Callable[[Any], None]) -> None:
    from romvae.training.stages import Stage

    original = Stage.training_step

    def step(self: Stage, batch: Any, batch_idx: int) -> Any:
        action(self)
        return original(self, batch, batch_idx)

    Stage.training_step = step  # type: ignore[method-assign]


def _disturbed(shop: Workshop) -> str:
    def hook() -> None:
        import torch

        def draw(stage: Any) -> None:
            torch.rand(7)
            np.random.rand(3)  # noqa: NPY002
            random.random()  # noqa: S311

        _before_each_step(draw)

    _same(shop, hook)
    return ""


def _evaluated(shop: Workshop) -> str:
    def hook() -> None:
        import torch

        def evaluate(stage: Any) -> None:
            vae = getattr(stage, "vae", None)
            if vae is not None:
                layout = vae.encoder.layout
                with torch.no_grad():
                    q = vae.encoder(torch.randn(2, layout.fields, *layout.shape))
                    vae.decoder(q.sample())

        _before_each_step(evaluate)

    _same(shop, hook)
    return "there is no validation during training: a forecast between steps stands for it"


def _logged(shop: Workshop) -> str:
    out = shop.new() / "run"
    words = [word for word in shop.training(out) if word not in ("-q", "--checkpoint-every", "0")]
    ended = romvae(*words, "--debug")
    require(ended.code == 0, ended.brief)
    require(weights(out) == weights(shop.run), "the weights differ")
    return ""


def _measured(shop: Workshop, measure: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """What a function of the ROM finds out in a child."""
    result, run = shop.new() / "result.json", shop.run

    def work() -> None:
        from romvae.rom import ROM

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result.write_text(json.dumps(measure(ROM.load(run))), encoding="utf-8")

    ended = forked(work, timeout=300)
    require(ended.code == 0, ended.brief)
    content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return content


def _start(shop: Workshop) -> Any:
    from romvae.testing import mock_snapshots

    return mock_snapshots(1, trajectories=2, times=8).isel(time=0)


def _kept(shop: Workshop) -> str:
    target = shop.new() / "again"

    def measure(rom: Any) -> dict[str, Any]:
        from romvae.rom import ROM

        rom.save(target)
        again = ROM.load(target)
        digests = []
        for one in (rom, again):
            forecast = one.rollout(_start(shop), steps=5, members=4, seed=0)
            content = b"".join(forecast[name].values.tobytes() for name in forecast.data_vars)
            digests.append(hashlib.sha256(content).hexdigest())
        return {"forecasts": digests}

    found = _measured(shop, measure)["forecasts"]
    require(found[0] == found[1], "the forecast differs after save and load")
    require((target / "model.safetensors").read_bytes() == (shop.run / "model/model.safetensors").read_bytes(), "bytes")
    return ""


def _memory(shop: Workshop, rollouts: int) -> str:
    def measure(rom: Any) -> dict[str, Any]:
        start = _start(shop)
        resident = []
        for _ in range(rollouts):
            rom.rollout(start, steps=20, members=8, seed=0)
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            resident.append(pages * resource.getpagesize() / 1e6)
        return {"resident": resident}

    resident = _measured(shop, measure)["resident"]
    settled = resident[len(resident) // 4 :]
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0])
    require(slope < 0.05, f"resident memory grows by {slope:.3f} MB per rollout")
    return f"{slope:+.4f} MB per rollout"


def _handles(shop: Workshop, opens: int) -> str:
    stores = [str(shop.store), str(shop.hdf5)]

    def measure(rom: Any) -> dict[str, Any]:
        from romvae.data import open_snapshots

        counts = []
        for number in range(opens):
            for store in stores:
                with open_snapshots(store, check=number == 0) as ds:
                    ds["u"][0].load()
            counts.append(len(os.listdir("/proc/self/fd")))
        return {"counts": counts}

    counts = _measured(shop, measure)["counts"]
    require(counts[-1] <= counts[0], f"{counts[-1]} files are open, {counts[0]} after the first")
    return f"{counts[-1]} open throughout"


def _long(shop: Workshop, steps: int) -> str:
    def measure(rom: Any) -> dict[str, Any]:
        from romvae.errors import NumericsError
        from romvae.rollout import latent_members

        x, c = rom.normalised(_start(shop))
        try:
            path = latent_members(rom.vae, rom.dynamics, x[:1, 0], c[:1], steps, 1, 0)
        except NumericsError as error:
            return {"said": str(error)}
        return {"said": "", "largest": float(path.abs().max())}

    found = _measured(shop, measure)
    if found["said"]:
        require("at step " in found["said"], found["said"])
        return found["said"]
    require(np.isfinite(found["largest"]), "the path is not finite, and nothing was said")
    return f"finite, largest latent {found['largest']:.3g}"
