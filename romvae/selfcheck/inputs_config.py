"""Odd and bad settings and command lines: 14."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from romvae.selfcheck.record import Case
from romvae.selfcheck.trial import accepted, refused
from romvae.selfcheck.workshop import Workshop

__all__ = ["config_inputs"]

ODD_ORDER = ("simulate", "-q", "--n", 2, "heat_1d", "--out", "HERE/h.h5", "--workers", 1)
CHECK = ("config", "--print", "HERE/a.yaml")


def config_inputs(shop: Workshop, quick: bool) -> list[Case]:
    """All of them, whether `quick` or not."""

    def bad(name: str, content: bytes | None, pattern: str, words: Sequence[object] = CHECK) -> Case:
        def make(folder: Path) -> None:
            if content is not None:
                (folder / "a.yaml").write_bytes(content)

        return refused(shop, name, make, words, pattern, code=2)

    def good(name: str, content: bytes, words: Sequence[object] = CHECK) -> Case:
        return accepted(shop, name, lambda folder: _put(folder / "a.yaml", content), words)

    bomb = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (k, k, k - 1, k - 1) for k in range(98, 120))
    return [
        bad("unknown key", b"model:\n  latnet: 8\n", r"a\.yaml:2:3: model\.latnet: unknown .*did you mean"),
        bad("wrong type", b"model:\n  latent: wide\n", r"a\.yaml:2:3: model\.latent = wide"),
        bad("out of range", b"model:\n  latent: 0\n", r"a\.yaml:2:3: model\.latent = 0"),
        bad("syntax", b"model: [1,\n  2\nseed: 3\n", r"a\.yaml:\d+:\d+: not valid YAML"),
        bad("key given twice", b"seed: 1\nseed: 2\n", r"a\.yaml:2:1: .*seed is given twice"),
        bad("python tag", b"seed: !!python/object/apply:os.system [id]\n", r"a\.yaml:1:7: not valid YAML"),
        bad("alias bomb", bomb, r"a\.yaml:\d+:\d+: .*aliases"),
        bad("tabs", b"model:\n\tlatent: 8\n", r"a\.yaml:2:1: not valid YAML"),
        bad("empty file", b"", r"a\.yaml: empty"),
        bad("not UTF-8", b"seed: 1 # \xff\n", r"a\.yaml: byte 10 is not UTF-8"),
        good("1e-3 as a number", b"training:\n  learning_rate: 1e-3\n"),
        bad("1e2 as a count", b"training:\n  vae_steps: 1e2\n", r"a\.yaml:2:3: training\.vae_steps"),
        bad("missing file", None, r"a\.yaml: no such file"),
        good(
            "options before and after the path",
            b"",
            ODD_ORDER,
        ),
    ]


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
