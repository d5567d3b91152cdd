"""Example forecasts: maps, lines with their interval, and the frames of the player."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from romvae import plot
from romvae.canonical import N_STEPS
from romvae.plot.fields import TITLES, FieldScale, plane, quantities, spread_parts
from romvae.plot.style import plain, units_text
from romvae.report.animation import animate, frame_steps
from romvae.report.picture import Maps, Picture, as_picture, data_address
from romvae.report.reading import percent
from romvae.schema import TIME, TRAJECTORY

__all__ = ["Block", "Player", "example_blocks", "field_names"]

_MOST_FIELDS = 3
_NO_PARAMETER = (TRAJECTORY, TIME, N_STEPS, "source_index")
# Frames of all players together (four pictures each), and the bytes they may take: the page stays under 8 MB.
_FRAMES = 60
_FRAME_BYTES = 1_700_000


@dataclass(frozen=True)
class Player:
    """Pictures that play together.

    Arguments:
        identity: Of the element in the page.
        title: Heading.
        caption: How to read it.
        handling: How to play it, for readers with a screen.
        panels: The pictures, as they are at first.
        first: Number of that frame.
        labels: One for each frame.
        frames: One data address for each panel and frame.
        paper: Frames that are printed: those of the times that stand nowhere else on the page.
    """

    identity: str
    title: str
    caption: str
    handling: str
    panels: tuple[Picture, ...]
    first: int
    labels: tuple[str, ...]
    frames: tuple[tuple[str, ...], ...]
    paper: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """All that the page shows of one field's example forecasts."""

    field: str
    maps: tuple[Maps, ...]
    lines: Maps
    player: Player | None
    parts: tuple[Maps, ...] = ()


def field_names(examples: xr.Dataset) -> list[str]:
    """Fields for which the examples hold truth, mean and spread."""
    names = [str(name).removeprefix("truth_") for name in examples.data_vars if str(name).startswith("truth_")]
    return [name for name in names if f"mean_{name}" in examples and f"std_{name}" in examples]


def example_blocks(examples: xr.Dataset) -> list[Block]:
    """Example forecasts of the first three fields: one of middling error, and the worst one."""
    fields = field_names(examples)[:_MOST_FIELDS]
    return [_block(examples, field, index, len(fields)) for index, field in enumerate(fields)]


def _block(examples: xr.Dataset, field: str, index: int, players: int) -> Block:
    truth, mean = examples[f"truth_{field}"], examples[f"mean_{field}"]
    space = [name for name in truth.dims if name != TRAJECTORY]
    # Over the typical size of all of them: a field close to zero would have a large relative error for no reason.
    size = float((truth.astype(float) ** 2).sum(space).mean()) or 1.0
    errors = np.sqrt(((mean - truth).astype(float) ** 2).sum(space).values / size)
    order = np.argsort(errors)  # NaN is last
    typical, worst = int(order[order.size // 2 if order.size > 2 else 0]), int(order[-1])
    chosen = {typical: f"middle of {order.size} examples"} if order.size > 1 else {typical: "the only example"}
    if worst != typical:
        chosen[worst] = f"worst of {order.size} examples"
    titles = {
        each: f"{_example_name(examples, each)} (error {percent(errors[each])}, {rank})"
        for each, rank in chosen.items()
    }
    steps = [int(step) for step in frame_steps(truth.sizes[TIME], 4)[1:]]
    # A 1-D map holds all times; otherwise the middling forecast is shown at two times, the worst at its end.
    shown = [(typical, step) for step in (steps[-1:] if truth.ndim == 3 else steps[-2:])]
    shown += [(each, steps[-1]) for each in chosen if each != typical]
    maps = tuple(
        _maps(examples.isel({TRAJECTORY: each}), field, titles[each], step, caption=row == 0)
        for row, (each, step) in enumerate(shown)
    )
    example = examples.isel({TRAJECTORY: typical})
    has_interval = f"lower_{field}" in examples and f"upper_{field}" in examples
    return Block(
        field,
        maps,
        _interval_pictures(example, field, titles[typical], steps) if has_interval else Maps("", ()),
        _player(example, field, titles[typical], index, players, _not_shown(shown, typical, truth))
        if has_interval
        else None,
        _spread_maps(example, field, titles[typical], steps),
    )


def _spread_maps(example: xr.Dataset, field: str, title: str, steps: list[int]) -> tuple[Maps, ...]:
    """What the predicted spread is made of; nothing where the examples do not tell, as those of a baseline."""
    found = spread_parts(example, field)
    if not found:
        return ()
    scale, one_dimensional = FieldScale.of_spread(example, field), example[f"truth_{field}"].ndim == 2
    text = (
        "Where the predicted standard deviation comes from, on one colour scale; the squares of the three parts add up "
        "to that of the total. Decoder: what so few latents cannot represent. Posterior: what the initial field leaves "
        "open. Ensemble: where networks that were trained alike disagree. Networks state each of them too large or too "
        "small by a factor of its own, which the calibration has put right."
    )
    maps: list[Maps] = []
    for step in steps[-1:] if one_dimensional else (steps[0], steps[-1]):
        when = "" if one_dimensional else f", {_time_label(example, step)}"
        kind = "Space-time map" if one_dimensional else "Map"
        pictures = []
        for quantity, values in found.items():
            name = "Total" if quantity == "std" else TITLES[quantity]
            what = "in all" if quantity == "std" else f"part of {name.partition(':')[0].lower()}"
            alt = f"{kind} of the predicted standard deviation of {plain(field)}, {what}{when}."
            panel = plot.map_panel(plane(values, step), quantity, scale)
            pictures.append(as_picture(panel, name, "", alt, as_map=True))
        caption = "" if maps else text
        maps.append(Maps(f"{plain(field)}{when}: parts of the spread, {title}", tuple(pictures), caption))
    return tuple(maps)


def _maps(example: xr.Dataset, field: str, title: str, step: int, *, caption: bool) -> Maps:
    truth, scale = example[f"truth_{field}"], FieldScale.of(example, field)
    one_dimensional = truth.ndim == 2
    when = "" if one_dimensional else f", {_time_label(example, step)}"
    kind = "Space-time map" if one_dimensional else "Map"
    pictures = tuple(
        as_picture(
            plot.map_panel(plane(values, step), quantity, scale),
            TITLES[quantity],
            "",
            f"{kind} of {plain(field)}: {TITLES[quantity].lower()}{when}.",
            as_map=True,
        )
        for quantity, values in quantities(example, field).items()
    )
    axes = "Time runs upwards, so the bottom row is the start. " if one_dimensional else _plane_text(truth)
    text = (
        f"{axes}Truth and forecast share one colour scale; error and predicted standard deviation share "
        "another. A useful uncertainty map is bright where the error map is strongly coloured. A pointed "
        "colour bar marks values cut off at its end."
    )
    return Maps(f"{plain(field)}{when}: {title}", pictures, text if caption else "")


def _interval_pictures(example: xr.Dataset, field: str, title: str, steps: list[int]) -> Maps:
    level = f"{100 * float(example.attrs.get('level', 0.9)):.0f} %"
    pictures = tuple(
        as_picture(
            plot.interval_lines(example, field, int(step)),
            _time_label(example, int(step)),
            "",
            f"{plain(field)} over {example[f'truth_{field}'].dims[-1]}: truth, forecast mean and {level} "
            f"interval, {_time_label(example, int(step))}.",
        )
        for step in steps
    )
    where = "" if example[f"truth_{field}"].ndim == 2 else " Along x, through the middle of the other axes."
    return Maps(
        f"{plain(field)}: forecast with its {level} interval, {title}",
        pictures,
        f"The black line (truth) should lie inside the blue band for about {level} of the points. A band "
        f"that widens with lead time shows the forecast growing less sure.{where}",
    )


def _not_shown(shown: list[tuple[int, int]], example: int, truth: xr.DataArray) -> list[int]:
    """The start, the end and two times between, without those of which the page has a map; a 1-D map is of no time."""
    elsewhere = [] if truth.ndim == 3 else [step for each, step in shown if each == example]
    return [int(step) for step in frame_steps(truth.sizes[TIME], 4) if step not in elsewhere]


def _player(example: xr.Dataset, field: str, title: str, index: int, players: int, printed: list[int]) -> Player:
    steps = frame_steps(example.sizes[TIME], _FRAMES // players)
    panels = animate(example, field, steps)
    # Rough fields make large pictures: fewer frames then, spread evenly, the last one always kept.
    size = sum(len(frame) for panel in panels for frame in panel.frames)
    room = max(2, int(len(steps) * _FRAME_BYTES / players / max(size, 1)))
    kept = frame_steps(len(steps), room)
    steps = steps[kept]
    sources = tuple(tuple(data_address(panel.frames[each], "image/webp") for each in kept) for panel in panels)
    first = len(steps) // 2  # shown until somebody plays: the start says little, the end has often decayed
    return Player(
        f"player-{index}",
        f"{plain(field)} over time: {title}",
        "Axes and colours stay the same over all frames.",
        "Press play, or drag the slider; with the keyboard, arrow keys move one frame at a time.",
        tuple(Picture(source[first], panel.alt, panel.title) for source, panel in zip(sources, panels, strict=True)),
        first,
        tuple(_time_label(example, int(step)) for step in steps),
        sources,
        tuple(sorted({int(np.abs(steps - each).argmin()) for each in printed})),
    )


def _time_label(example: xr.Dataset, step: int) -> str:
    time = example[TIME]
    return f"t = {float(time.values[step]):.4g} {units_text(time.attrs.get('units'))}".strip()


def _example_name(examples: xr.Dataset, index: int) -> str:
    """Number of the trajectory and its physical parameters."""
    example = examples.isel({TRAJECTORY: index})
    number = int(example[TRAJECTORY]) if TRAJECTORY in example.coords else index
    scalars = (
        f"{plain(name)} = {float(value):.3g} {units_text(value.attrs.get('units'))}".strip()
        for name, value in example.coords.items()
        if value.ndim == 0 and name not in _NO_PARAMETER and np.issubdtype(value.dtype, np.number)
    )
    return f"trajectory {number}" + "".join(f", {each}" for each in scalars)


def _plane_text(truth: xr.DataArray) -> str:
    if truth.ndim < 4:
        return ""
    name = str(truth.dims[1])
    value = float(truth[name].values[truth.sizes[name] // 2])
    return f"The plane {name} = {value:.3g}, in the middle, is shown. "
