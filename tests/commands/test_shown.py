"""Commands that show what there is: data, settings and the environment; and how data is recognised."""

from __future__ import annotations

import json

from romvae.commands.run_folder import fingerprint
from romvae.environment import show_versions

READING = {"open_snapshots": None, "readers": None}  # imported by info, and not needed for a store of romvae's own


def test_info_shows_a_store_and_the_environment(run, fake, tmp_path):
    facts = {"fields": [{"name": "u"}], "axes": [], "usable": True, "problems": []}
    fake("romvae.data", describe=lambda path: facts, summary=lambda facts: "a summary", **READING)
    store = tmp_path / "a.h5"
    store.touch()
    assert run("info", store) == (0, f"a summary\nNext: romvae train {store} --out runs/a\n", "")
    assert json.loads(run("info", store, "--json")[1]) == facts
    assert json.loads(run("info", "--env", "--json")[1]) == show_versions()
    assert run("info", "--env")[1] == f"{show_versions()}\n"


def test_info_on_unusable_data_says_why_and_is_exit_code_3(run, fake, tmp_path):
    facts = {"usable": False, "problems": ["u is nan at [3, 17]"]}
    fake("romvae.data", describe=lambda path: facts, summary=lambda facts: "a summary", **READING)
    code, out, err = run("info", tmp_path)
    assert (code, out) == (3, "a summary\n")
    assert err == f"error: {tmp_path}: not usable: u is nan at [3, 17]\n"


def test_config_prints_schema_and_resolved_settings(run, tmp_path):
    assert json.loads(run("config", "--schema")[1])["properties"]["model"]
    path = tmp_path / "rom.yaml"
    path.write_text("seed: 5")
    code, out, _ = run("config", "--print", path)
    assert code == 0
    assert "seed: 5" in out
    assert "noise_floor: 0.001" in out
    path.write_text("sed: 5")
    code, _, err = run("config", "--print", path)
    assert code == 2
    assert "did you mean seed?" in err


def test_fingerprint_follows_names_and_contents(tmp_path):
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / "c").write_bytes(b"1")
    first = fingerprint(store)
    assert fingerprint(store.rename(tmp_path / "b.zarr")) == first
    (tmp_path / "b.zarr" / "c").write_bytes(b"2")
    assert fingerprint(tmp_path / "b.zarr") != first
