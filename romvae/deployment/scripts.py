"""The scripts beside exported programs, which run them with NumPy and torch or onnxruntime, without romvae."""

from __future__ import annotations

from romvae.deployment.tracing import Format

__all__ = ["script", "stepping_script"]

_NEEDS: dict[Format, str] = {"torch": "torch", "onnx": "onnxruntime"}
_OPENED: dict[Format, str] = {
    "torch": """\
    module = torch.export.load(file).module()

    def run(inputs):
        with torch.no_grad():
            outputs = module(**{key: torch.from_numpy(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}
""",
    "onnx": """\
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]

    def run(inputs):
        return dict(zip(names, session.run(names, inputs)))
""",
}

_LOAD: dict[Format, str] = {
    "torch": "torch.export.load(file).module()",
    "onnx": "onnxruntime.InferenceSession(file)",
}
_CALL: dict[Format, str] = {
    "torch": """\
    with torch.no_grad():
        outputs = program(**{name: torch.from_numpy(values) for name, values in inputs.items()})
    pieces.append({name: values.numpy() for name, values in outputs.items()})""",
    "onnx": """\
    pieces.append(dict(zip(about["outputs"], program.run(list(about["outputs"]), inputs))))""",
}

_OPEN = """\
here = Path(__file__).resolve().parent
card = json.loads((here / "card.json").read_text(encoding="utf-8"))
noise = dict(np.load(here / "noise.npz"))


def program(name):
    file = here / card["programs"][name]["file"]
    if hashlib.sha256(file.read_bytes()).hexdigest() != card["sha256"][file.name]:
        sys.exit(f"{{file}}: its SHA-256 is not the one in card.json: damaged or changed")
{opened}
    return run
"""

_WHOLE = '''\
"""Forecasts with the exported reduced-order model: python run_without_romvae.py [IN.npz [OUT.npz]]

IN.npz holds what example.npz holds, for any number of trajectories, in the units of card.json.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import {needs}

here = Path(__file__).resolve().parent
card = json.loads((here / "card.json").read_text(encoding="utf-8"))
about, block, pieces = card["programs"]["rollout"], card["noise"]["trajectories"], []
file = here / about["file"]
if hashlib.sha256(file.read_bytes()).hexdigest() != card["sha256"][file.name]:
    sys.exit(f"{{file}}: its SHA-256 is not the one in card.json: damaged or changed")
program = {load}
data, noise = np.load(sys.argv[1] if len(sys.argv) > 1 else here / "example.npz"), np.load(here / "noise.npz")
for k, known in enumerate(card["parameters"]):
    if not np.all((known["low"] <= data["parameters"][:, k]) & (data["parameters"][:, k] <= known["high"])):
        print(f"warning: {{known['name']}} lies outside the trained range {{known['low']:g}} to {{known['high']:g}}")
for first in range(0, len(data["fields"]), block):
    rows = {{name: data[name][first : first + block] for name in about["inputs"] if name in data}}
    rows |= {{name: noise[name][..., : len(rows["fields"]), :] for name in noise}}
    inputs = {{name: np.ascontiguousarray(rows[name], i["dtype"]) for name, i in about["inputs"].items()}}
{call}
forecast = {{name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}}
if not all(np.isfinite(values).all() for values in forecast.values()):
    print("warning: the forecast is not finite everywhere")
for k, field in enumerate(card["fields"]):
    mean, std = forecast["mean"][:, -1, k], forecast["std"][:, -1, k].mean()
    values = f"{{mean.min():.4g}} to {{mean.max():.4g}}, std {{std:.2g}}"
    print(f"{{field['name']}} [{{field['units']}}] at the end: {{values}}")
times = card["time"]["step"] * np.arange(forecast["mean"].shape[1])
np.savez(sys.argv[2] if len(sys.argv) > 2 else "forecast.npz", time=times, **forecast)
'''

_STEPS = '''\
"""Forecasts of any number of steps, by the programs of the parts: python step_by_step.py STEPS [IN.npz [OUT.npz]]

The latents are stepped first and decoded afterwards, in chunks of 16 lead times. Beyond the calibrated lead times the
last factors are held.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import {needs}

{open}


steps, block = int(sys.argv[1]), card["noise"]["trajectories"]
data = np.load(sys.argv[2] if len(sys.argv) > 2 else here / "example.npz")
window, stride = card["model"]["window"], card["model"]["stride"]
encode, forecast = program("encoder"), program("forecast")
names = ["dynamics"] if window == 1 else [f"dynamics_{{k}}" for k in range(1, window + 1)]
advance = [program(name) for name in names]
random, pieces = np.random.default_rng(0), []
for first in range(0, len(data["fields"]), block):
    rows = {{name: data[name][first : first + block] for name in data.files if name != "earlier"}}
    fields = rows["fields"] = np.ascontiguousarray(rows["fields"], np.float64)
    drawn = {{"noise": np.ascontiguousarray(noise["noise"][:, : len(fields)])}} if "noise" in noise else {{}}
    anchors = [encode({{"fields": fields, **drawn}})["start"]]
    path = [anchors[0]]
    for k in range(-(-steps // stride)):
        inputs = {{"history": np.stack(anchors[-window:], 2)}}
        if "parameters" in rows:
            inputs["parameters"] = np.ascontiguousarray(rows["parameters"], np.float64)
        if "controls" in rows:
            inputs["controls"] = np.ascontiguousarray(rows["controls"][:, k : k + 2], np.float64)
        if "step_noise" in noise:  # the stored numbers first, then others
            known = k < len(noise["step_noise"])
            shape = (*noise["noise"].shape[:1], len(fields), noise["noise"].shape[2])
            values = noise["step_noise"][k][:, : len(fields)] if known else random.standard_normal(shape)
            inputs["step_noise"] = np.ascontiguousarray(values, np.float32)
        after = advance[min(len(anchors), window) - 1](inputs)["latents"]
        path.extend(after)
        anchors = [*anchors[1 - window :], after[-1]] if window > 1 else [after[-1]]
    chunks = []
    for begin in range(0, steps + 1, 16):
        lead = np.arange(begin, min(begin + 16, steps + 1))
        inputs = {{"latents": np.stack([path[k] for k in lead]), "lead": lead}}
        if "fields" in card["programs"]["forecast"]["inputs"]:
            inputs["fields"] = fields
        if "parameters" in card["programs"]["forecast"]["inputs"]:
            inputs["parameters"] = np.ascontiguousarray(rows["parameters"], np.float64)
        chunks.append(forecast(inputs))
    pieces.append({{name: np.concatenate([chunk[name] for chunk in chunks], 1) for name in chunks[0]}})
result = {{name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}}
times = card["time"]["step"] * np.arange(steps + 1)
np.savez(sys.argv[3] if len(sys.argv) > 3 else "forecast.npz", time=times, **result)
print(f"{{steps}} steps of {{len(data['fields'])}} trajectories")
'''


def script(kind: Format) -> str:
    """Text of the script that runs the whole rollout."""
    return _WHOLE.format(needs=_NEEDS[kind], load=_LOAD[kind], call=_CALL[kind])


def stepping_script(kind: Format) -> str:
    """Text of the script that steps through any number of steps."""
    return _STEPS.format(needs=_NEEDS[kind], open=_OPEN.format(opened=_OPENED[kind]).rstrip())
