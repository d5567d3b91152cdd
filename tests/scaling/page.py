"""The tables of SCALING.md, made from the rows of `tables.json`: `python -m tests.scaling.page` writes them anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.scaling import model

__all__ = ["PAGE", "TABLES", "filled"]

PAGE = Path(__file__).parents[2] / "SCALING.md"
Rows = Mapping[str, Mapping[str, Any]]
KINDS = ("linear", "members")


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    cells = [" | ".join(_cell(each) for each in line) for line in lines]
    return "\n".join(f"| {line} |" for line in [" | ".join(head), " | ".join(["---"] * len(head)), *cells])


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def _part(rows: Rows, table: str, begin: str = "") -> dict[str, Mapping[str, Any]]:
    prefix = f"{table}/"
    return {k[len(prefix) :].removeprefix(begin): r for k, r in rows.items() if k.startswith(prefix + begin)}


def constants(rows: Rows) -> str:
    """The fitted constants."""
    units = {"multiply-add": 1e6, "number moved": 1e6, "weight": 1e6, "step": 1.0}
    lines = []
    for work, fit in model.fits(rows).items():
        values = dict(zip(fit.names, fit.constants, strict=True))
        lines.append([work, *(float(values[name] * units[name]) if name in values else "" for name in units)])
    return _table(["work", "ps per multiply-add", "ps per number moved", "ps per weight", "µs per step"], lines)


def times(rows: Rows) -> str:
    """Predicted and measured times on grids that the fit has not seen."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for work, name, predicted, measured in model.predictions(rows):
        found.setdefault(name, {})[work] = (predicted, measured)
    lines = []
    for name, each in found.items():
        line: list[Any] = [name]
        for work in ("encode", "decode", "step"):
            predicted, measured = (value * (1e-3 if work == "step" else 1) for value in each[work])
            line += [predicted, measured, predicted / measured]
        lines.append(line)
    heads = [f"{work}, {what}" for work in ("encode", "decode", "step") for what in ("predicted", "measured", "ratio")]
    return _table(["grid", *heads], lines)


def points(rows: Rows) -> str:
    """Nanoseconds per grid point."""
    lines = []
    for name, row in _part(rows, "networks").items():
        n = row["points"]
        step = 1e6 * row["step_ms"] / row["batch"] / n
        each = [1e3 * row[f"{work}_us"] / n for work in ("encode", "decode")]
        lines.append([name, f"{n:,}", *each, step, row["decode_macs"] / n])
    head = ["grid", "points", "encode, ns", "decode, ns", "training step, ns per sample", "multiply-adds of decoding"]
    return _table(head, lines)


def training_memory(rows: Rows) -> str:
    """Predicted and measured peaks of training."""
    lines = [[name, c, p, m, p / m] for name, c, p, m in model.memory_predictions(rows)]
    return _table(["grid, batch", "counted, MiB", "predicted, MiB", "measured, MiB", "predicted over measured"], lines)


def rollout_memory(rows: Rows) -> str:
    """Peaks of rollouts."""
    found = [(k, r) for k, r in _part(rows, "memory").items() if not k.startswith("training")]
    return _table(["rollout", "peak, MiB", "result, MiB"], [[k, r["peak_mib"], r["result_mib"]] for k, r in found])


def against_decoder(rows: Rows) -> str:
    """Rollouts of 64 members against the bare decoder."""
    lines = [
        [
            name,
            f"{r['members']} x {r['trajectories']} x {r['steps']}",
            *(float(r[key]) for key in ("rollout_us", "decoder_us", "ratio", "worst_ratio", "mean_only_ratio")),
            f"{r['mean_over_members']:.3f}",
        ]
        for name, r in _part(rows, "rollout").items()
        if "ratio" in r
    ]
    head = ["grid", "members x trajectories x steps", "rollout, µs per frame", "bare decoder", "ratio", "worst turn"]
    return _table([*head, "`mean` over its bare decoder", "`mean` over members"], lines)


def moments(rows: Rows) -> str:
    """Costs over 64 members, and errors against 1024, of trained ROMs."""
    lines = []
    for name, r in _part(rows, "moments").items():
        costs = [f"{r[f'{kind}_ratio']:.3f}" for kind in ("mean", "linear", "16")]
        errors = [f"{100 * r[f'{kind}_{of}']:.1f}" for of in ("std", "std_dynamics", "mean") for kind in KINDS]
        about = [f"{r['grid']}, {r['fields']}", r["latent"], float(r["directions"])]
        lines.append([name, *about, *costs, *errors, f"{100 * r['agreement']:.2g}"])
    heads = [f"{of}, {kind}" for of in ("std", "its dynamics part", "mean") for kind in ("`linear`", "64 members")]
    begin = ["ROM", "grid, fields", "latents", "directions decoded", "`mean`", "`linear`", "16 members"]
    return _table([*begin, *(f"{head}, %" for head in heads), "`auto` finds, %"], lines)


def _by_name(rows: Rows, table: str, begin: str) -> str:
    found = _part(rows, table, begin)
    names = list(dict.fromkeys(key for row in found.values() for key in row))
    return _table(["", *found], [[n.replace("_ms", ", ms"), *(r.get(n, "") for r in found.values())] for n in names])


def lines(rows: Rows) -> str:
    """Cost over steps, members and trajectories."""
    found = _part(rows, "linear")
    return _table(
        ["1-D 256", "frames", "s", "µs per frame"],
        [[k, f"{r['frames']:,}", r["seconds"], r["us_per_frame"]] for k, r in found.items()],
    )


def compiled(rows: Rows) -> str:
    """Eager against compiled."""
    keys = ("eager_us", "compiled_us", "ratio", "compile_s", "step_eager_us", "step_compiled_us", "step_ratio")
    found = _part(rows, "compile", "compile, ")
    head = ["network", "decode, eager", "compiled", "ratio", "compiling, s", "step, eager", "compiled", "ratio"]
    return _table(
        [*head, "compiling, s"], [[k, *(r[key] for key in keys), r["step_compile_s"]] for k, r in found.items()]
    )


def digits(rows: Rows) -> str:
    """bf16 against float32."""
    found = _part(rows, "compile", "bf16, ")
    errors = ("error_of_mean", "error_of_std")
    return _table(
        ["network", "float32", "bf16", "ratio", "error of the mean", "error of the standard deviation"],
        [[k, r["float32_us"], r["bf16_us"], r["ratio"], *(f"{r[e]:.1e}" for e in errors)] for k, r in found.items()],
    )


def traffic(rows: Rows) -> str:
    """Bytes between two processes."""
    keys = ("predicted_step_bytes", "step_bytes", "step_ratio", "calibration_bytes")
    return _table(
        ["two processes", "weights", "predicted bytes per step", "measured", "measured over predicted", "calibration"],
        [
            [k, f"{r['weights']:,}", *(r[key] if key == "step_ratio" else f"{r[key]:,.0f}" for key in keys)]
            for k, r in _part(rows, "traffic", "two processes, ").items()
        ],
    )


def disk(rows: Rows) -> str:
    """Bytes on disk."""
    lines = []
    for name, r in _part(rows, "traffic", "disk, ").items():
        data = (f"{r['numbers_bytes']:,}", f"{r['store_bytes']:,}", r["store_ratio"])
        lines.append([name, *data, f"{r['weights_bytes']:,}", f"{r['checkpoint_bytes']:,}", r["checkpoint_ratio"]])
    return _table(["grid", "numbers", "store", "ratio", "weights of the ROM", "checkpoint", "ratio"], lines)


TABLES: dict[str, Callable[[Rows], str]] = {
    "constants": constants,
    "times": times,
    "points": points,
    "training memory": training_memory,
    "rollout memory": rollout_memory,
    "against decoder": against_decoder,
    "moments": moments,
    "rollout parts": lambda rows: _by_name(rows, "rollout", "parts, "),
    "step parts": lambda rows: _by_name(rows, "step", ""),
    "start": lambda rows: _by_name(rows, "start", ""),
    "lines": lines,
    "compiled": compiled,
    "digits": digits,
    "traffic": traffic,
    "disk": disk,
}


def filled(text: str, rows: Rows) -> str:
    """The page with all tables made anew: each stands between `<!-- NAME -->` and `<!-- / -->`."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->\n", "<!-- / -->"
        before, found, rest = text.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"{PAGE.name}: there is no place for the table {name!r}. Add `<!-- {name} -->`.")
        text = f"{before}{begin}{make(rows)}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), model.found()), encoding="utf-8")
