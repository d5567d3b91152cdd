"""What all pages share: escaping templates, and a content policy that admits our own style and script only."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

import jinja2

__all__ = ["jinja", "policy"]


def jinja() -> jinja2.Environment:
    """Templates in which every value is escaped, and a missing one is an error."""
    own = files("romvae.report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: own.joinpath(name).read_text(encoding="utf-8")),
    )
    environment.filters["tight"] = _tight
    return environment


def policy(style: str, script: str | None = None) -> str:
    """Content security policy: pictures inside the page, this style and this script, and nothing else."""
    allowed = "" if script is None else f"; script-src '{_hash(script)}'"
    return f"default-src 'none'; img-src data:; style-src '{_hash(style)}'{allowed}"


def _tight(text: str) -> str:
    """No line break between a number and its per cent sign."""
    return text.replace(" %", "\u00a0%")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
