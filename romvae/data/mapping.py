"""A mapping: what is where in files of an unknown layout, written by the user as a YAML file.

```yaml
reader: hdf5
fields:
  u: {path: /velocity, dims: [trajectory, time, x, y, component], index: {component: 0}, units: m s-1}
coordinates:
  time: {start: 0.0, step: 0.01, units: s}
  x: {path: /grid/x, units: m}
  y: {values: [0.0, 0.5, 1.0]}
parameters:
  nu: {attribute: viscosity}
boundaries:
  x: [periodic, periodic]
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from romvae.boundary import as_boundary, both_sides
from romvae.canonical import SPACE, TIME, TRAJECTORY, did_you_mean
from romvae.errors import ConfigError
from romvae.settings import Settings
from romvae.settings_file import read_settings_file

__all__ = [
    "LAYOUTS",
    "CoordinateEntry",
    "FieldEntry",
    "Mapping",
    "MaskEntry",
    "ParameterEntry",
    "StaticEntry",
    "is_mapping",
    "mapping_text",
    "read_mapping",
]

Layout = Literal[
    "well",
    "pdebench",
    "pdearena",
    "apebench",
    "cfdbench",
    "bubbleml",
    "jhtdb",
    "dedalus",
    "cf",
    "vtk",
    "hdf5",
    "netcdf",
    "zarr",
    "npy",
    "npz",
]
LAYOUTS: tuple[str, ...] = get_args(Layout)
_GENERIC = ("hdf5", "netcdf", "zarr", "npy", "npz")
_STEPS = (TRAJECTORY, TIME)


_PLAIN = {
    "model_type": "expected entries in braces, such as {path: ...}",
    "dict_type": "expected names with entries, such as {x: ...}",
    "list_type": "expected a list in brackets",
    "string_type": "expected a text, in quotes where YAML reads it as a number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
}
"""What is expected, by pydantic's name of the mistake."""


class _Located(Settings):
    path: str = Field("", description="dataset, variable, or file name of a .npy in a folder")
    dims: list[str] = Field([], description="a name for every axis, in the order in which the file stores them")
    index: dict[str, int] = Field({}, description="the entry that is meant, for axes that are no canonical dim")
    units: str | None = Field(None, description="units; dimensionless if left out")
    long_name: str | None = Field(None, description="what a figure calls it")

    @model_validator(mode="after")
    def _every_axis_is_named(self) -> _Located:
        if "?" in self.dims:
            raise ValueError(
                "dims holds '?': say what that axis is: trajectory, time, z, y, x, or another with an index"
            )
        repeated = sorted({dim for dim in self.dims if self.dims.count(dim) > 1})
        if repeated:
            raise ValueError(f"dims names {repeated[0]!r} twice; every axis needs a name of its own")
        for dim in self.dims:
            if dim not in (*_STEPS, *SPACE) and dim not in self.index:
                raise ValueError(
                    f"dims names {dim!r}, expected some of {', '.join((*_STEPS, 'z', 'y', 'x'))}."
                    f"{did_you_mean(dim, (*_STEPS, *SPACE))} For another axis, say under index which entry is meant"
                )
        unused = [name for name in self.index if name not in self.dims]
        if unused:
            raise ValueError(f"index names {unused[0]!r}, which is not among dims ({', '.join(self.dims)})")
        return self


class FieldEntry(_Located):
    """A scalar field: where its values are and what its axes are."""

    window: dict[str, tuple[int, int]] = Field({}, description="first and end index of axes that count in part")


class StaticEntry(_Located):
    """A field without time."""


class MaskEntry(_Located):
    """Points that belong to the domain: an array, or the points at which a field is a number."""

    inside: float = Field(1, description="value of the array at points inside the domain")
    number_in: str | None = Field(None, description="field that is NaN outside the domain, always at the same points")


class CoordinateEntry(Settings):
    """A coordinate: an array of the file, a list, or a start and a step."""

    path: str | None = Field(None, description="dataset or variable")
    index: list[int | None] = Field([], description="entry of every axis of the array but one, which is null")
    values: list[float] | None = Field(None, description="the coordinates themselves")
    start: float | None = Field(None, description="first coordinate")
    step: float | None = Field(None, gt=0, description="distance of neighbouring coordinates")
    stop: int | None = Field(None, ge=1, description="number of entries that count, from the first on")
    units: str | None = Field(None, description="units; dimensionless if left out")

    @model_validator(mode="after")
    def _one_way(self) -> CoordinateEntry:
        ways = [self.path is not None, self.values is not None, self.start is not None or self.step is not None]
        if sum(ways) > 1 or (self.start is None) != (self.step is None):
            raise ValueError("should have exactly one of path, values, or start with step")
        return self

    @property
    def given(self) -> bool:
        """Whether it says where the numbers are, not only their units."""
        return self.path is not None or self.values is not None or self.start is not None


class ParameterEntry(Settings):
    """A physical parameter: an array, an attribute, or a number."""

    path: str | None = Field(None, description="dataset or variable, a number or one per trajectory")
    attribute: str | None = Field(
        None, description="attribute of the file, or of the object under `of`: a number or one per trajectory"
    )
    of: str = Field("/", description="object whose attribute is meant")
    value: float | list[float] | None = Field(None, description="the number, or one per trajectory")
    units: str | None = Field(None, description="units; dimensionless if left out")

    @model_validator(mode="after")
    def _one_way(self) -> ParameterEntry:
        if sum(one is not None for one in (self.path, self.attribute, self.value)) != 1:
            raise ValueError("should have exactly one of path, attribute or value")
        return self


class _MisnamedError(ValueError):
    """A key that is none of those known; `at` is the way to it."""

    def __init__(self, at: tuple[str, str], known: Sequence[str]) -> None:
        self.at = at
        hint = did_you_mean(at[1], known)
        super().__init__(f"{at[0]} names {at[1]!r}, expected some of {', '.join(known)}.{hint}")


def _ends(entry: Any) -> tuple[Any, Any]:
    """Two known conditions, (lower, upper); one stands for both."""
    pair = both_sides(entry)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError("expected one condition for both ends, or two: [lower, upper], such as [wall, open]")
    lower, upper = (as_boundary(side) for side in pair)
    if (lower.kind == "periodic") != (upper.kind == "periodic"):
        raise ValueError("is periodic on one side only; make both sides periodic or neither")
    return pair[0], pair[1]


class Mapping(Settings):
    """What is where in a data set, and what its files do not say."""

    reader: Layout = Field(description="layout of the files; one of the generic ones needs fields and coordinates")
    axes: list[Literal["x", "y", "z"]] = Field([], description="order in which spatial axes are stored, slowest first")
    along: Literal["trajectory", "time"] = Field("trajectory", description="what follows from file to file")
    part: str | None = Field(None, description="the part to read where files are sorted into train, valid and test")
    points: dict[str, int] = Field({}, description="points of the grid that an unstructured mesh is sampled on")
    fields: dict[str, FieldEntry] = Field({}, description="name of each field to where it is")
    coordinates: dict[str, CoordinateEntry] = Field({}, description="time, x, y, z to where they are")
    parameters: dict[str, ParameterEntry] = Field({}, description="name of each parameter to where it is")
    statics: dict[str, StaticEntry] = Field({}, description="name of each field without time to where it is")
    mask: MaskEntry | None = Field(None, description="points that belong to the domain; NaN elsewhere is accepted")
    boundaries: dict[str, Annotated[tuple[Any, Any], BeforeValidator(_ends)]] = Field(
        {}, description="axis to its (lower, upper) boundary condition, or to one for both"
    )
    units: dict[str, str] = Field({}, description="units of fields, axes, parameters and time, by name")
    title: str | None = Field(None, description="what the data are")
    licence: str | None = Field(None, description="what may be done with them")

    @model_validator(mode="before")
    @classmethod
    def _only_axes_of_fields(cls, data: Any) -> Any:
        # A proposal asks for the step of every axis that there may be; once all are named, some are not there.
        fields, coordinates = (data.get(key) if isinstance(data, dict) else None for key in ("fields", "coordinates"))
        if not isinstance(fields, dict) or not isinstance(coordinates, dict):
            return data
        entries = [entry.get("dims") for entry in fields.values() if isinstance(entry, dict)]
        dims = {str(dim) for each in entries if isinstance(each, list) for dim in each}
        asked = {axis for axis, e in coordinates.items() if isinstance(e, dict) and "?" in e.values()}
        left = {axis: e for axis, e in coordinates.items() if axis not in asked or axis in {TIME, "?", *dims}}
        return {**data, "coordinates": left}

    @model_validator(mode="after")
    def _generic_layouts_need_fields(self) -> Mapping:
        if self.reader in _GENERIC and not self.fields:
            raise ValueError(f"reader {self.reader} needs fields; romvae info FILE proposes them")
        for name, known in (("coordinates", (TIME, *SPACE)), ("boundaries", SPACE), ("points", SPACE)):
            for key in getattr(self, name):
                if key not in known:
                    raise _MisnamedError((name, key), known)
        return self

    @property
    def generic(self) -> bool:
        """Whether the mapping alone says what is where."""
        return self.reader in _GENERIC


def is_mapping(reader: str | Path) -> bool:
    """Whether a reader is a mapping file, and not the name of a layout."""
    return isinstance(reader, Path) or Path(reader).suffix in (".yaml", ".yml")


def mapping_text(reader: str | Path | None) -> str | None:
    """The text of a mapping file, to be kept beside what was made with it; None where the reader is none."""
    return Path(reader).read_text(encoding="utf-8") if reader is not None and is_mapping(reader) else None


def read_mapping(path: Path | str) -> Mapping:
    """Reads a mapping file.

    Raises:
        ConfigError: Not valid YAML, a key that is unknown or given twice, a value of the wrong kind; the message names
            file, line and column.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such mapping file. Check the path given to --reader")
    file = read_settings_file(path)
    try:
        return Mapping.model_validate(file.data)
    except ValidationError as error:
        sentences = [_sentence(dict(item), str(path), file.marks) for item in error.errors(include_url=False)]
        raise ConfigError("; ".join(sentences)) from None


def _sentence(item: dict[str, Any], source: str, marks: dict[tuple[str, ...], tuple[int, int]]) -> str:
    keys = tuple(str(key) for key in item["loc"])
    raised = item.get("ctx", {}).get("error")
    if isinstance(raised, _MisnamedError):
        return f"{':'.join([source, *map(str, marks.get(raised.at, ()))])}: {raised}"
    place = next((marks[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in marks), ())
    where = ":".join([source, *map(str, place)])
    key = ".".join(keys)
    if item["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key.{did_you_mean(keys[-1], _known())} Remove or correct it"
    if item["type"] == "missing":
        one_of = f": one of {', '.join(LAYOUTS)}; romvae info FILE proposes a mapping" if key == "reader" else ""
        return f"{where}: {key}: is missing. Add it{one_of}"
    reason = str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    reason = _PLAIN.get(item["type"], reason)
    if item["input"] == "?":
        reason = "is still to be said: put the number or the word in its place"
    elif item["type"] == "literal_error" and isinstance(item["input"], str):
        reason += did_you_mean(item["input"], _words(str(item["ctx"]["expected"]))).replace(" Did", ". Did")
    text = " ".join(str(item["input"]).split())
    shown = f" = {text[:40]}" if not isinstance(item["input"], dict) else ""
    return f"{where}: {key}{shown}: {reason}" if key else f"{where}: {reason}"


def _words(expected: str) -> list[str]:
    """The words that pydantic says it expects: `'a', 'b' or 'c'`."""
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _known() -> list[str]:
    models: tuple[type[BaseModel], ...] = (Mapping, FieldEntry, CoordinateEntry, ParameterEntry, MaskEntry)
    return sorted({name for model in models for name in model.model_fields})
