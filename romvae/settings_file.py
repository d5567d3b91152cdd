"""Reading settings from a YAML file: strict, small, and with the place of every mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from romvae.errors import ConfigError
from romvae.settings import AnySettings, validated

__all__ = ["MAXIMUM_BYTES", "SettingsFile", "load_settings", "merged", "read_settings_file"]

MAXIMUM_BYTES = 1_000_000


class SettingsFile(NamedTuple):
    """A YAML file as nested dictionaries, and the line and column (from 1) of each key."""

    data: dict[str, Any]
    marks: dict[tuple[str, ...], tuple[int, int]]


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset without two traps: a key given twice, and aliases, which nest to any size."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.get_event()
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_settings(
    cls: type[AnySettings], path: Path | str | None, flags: Mapping[str, Any] | None = None
) -> AnySettings:
    """Settings of a file, if there is one, with the flags of the command line on top.

    Arguments:
        cls: class of the settings.
        path: YAML file, or None for the defaults.
        flags: settings given on the command line, nested as in the file.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or out of range.
    """
    if path is None:
        return validated(cls, flags or {})
    file = read_settings_file(path)
    validated(cls, file.data, str(path), file.marks)
    return validated(cls, merged(file.data, flags or {}))


def read_settings_file(path: Path | str) -> SettingsFile:
    """Contents of a YAML file.

    Raises:
        ConfigError: missing, empty, over 1 MB, not UTF-8, not valid YAML (with line and column), a key given
            twice, an alias, a tag, or a top level that is not a mapping.
    """
    path = Path(path)
    text = _read_text(path)
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: not valid YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}.") from None
    if data is None:
        raise ConfigError(f"{path}: empty. Expected settings; romvae config --example prints a file to start from.")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a {type(data).__name__}, expected a mapping of settings (key: value).")
    return SettingsFile(data, dict(_marks(node)))


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAXIMUM_BYTES:
            raise ConfigError(f"{path}: {size} bytes, expected settings of at most {MAXIMUM_BYTES} bytes.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8 text.") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Check the path given to --config.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None


def _marks(node: Any, above: tuple[str, ...] = ()) -> Any:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        path = (*above, str(key.value))
        yield path, (key.start_mark.line + 1, key.start_mark.column + 1)
        yield from _marks(value, path)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings in one; where both have a key, `above` wins."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both
