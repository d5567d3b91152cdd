"""The notebook on foreign files stops where a command ends otherwise than its text says."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_your_own_hdf5.py"


def test_a_command_that_ends_otherwise_than_expected_stops_the_notebook(tmp_path, capsys):
    tree = ast.parse(NOTEBOOK.read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "romvae_command")
    done = SimpleNamespace(returncode=3, stdout="", stderr="error: the axes do not fit")
    names = {"subprocess": SimpleNamespace(run=lambda *args, **kwargs: done), "sys": sys, "folder": tmp_path}
    exec(compile(ast.Module([function], []), str(NOTEBOOK), "exec"), names)  # the notebook's own function, alone
    names["romvae_command"]("info", "run_0.h5", code=3)
    with pytest.raises(RuntimeError, match=r"romvae pack a b ended with exit code 3, expected 0"):
        names["romvae_command"]("pack", "a", "b")
    assert capsys.readouterr().out.count("error: the axes do not fit") == 2  # what it said is seen in both cases
