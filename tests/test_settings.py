"""Settings: one definition, strict files, and messages that name the place."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from romvae.errors import ConfigError
from romvae.kinds import DEFAULTS
from romvae.settings import Settings, SimulateSettings, TrainSettings, example_yaml, to_yaml, validated
from romvae.settings_file import MAXIMUM_BYTES, load_settings, read_settings_file

SETTINGS = [TrainSettings, SimulateSettings]


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "rom.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("cls", SETTINGS)
def test_example_and_resolved_files_read_back_to_the_defaults(cls: type[Settings], write):
    assert load_settings(cls, write(example_yaml(cls))) == cls()
    assert load_settings(cls, write(to_yaml(cls(), "title"))) == cls()


@pytest.mark.parametrize("cls", SETTINGS)
def test_every_setting_is_described_and_in_the_schema(cls: type[Settings]):
    schema = cls.model_json_schema()
    sections = [schema, *schema.get("$defs", {}).values()]
    assert all(entry["description"] for section in sections for entry in section["properties"].values())
    assert all(section["additionalProperties"] is False for section in sections)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(write):
    path = write("seed: 3\nmodel: {latent: 5, hidden: 7}\n")
    chosen = load_settings(TrainSettings, path, {"model": {"latent": 9}})
    assert (chosen.seed, chosen.model.latent, chosen.model.hidden, chosen.model.members) == (3, 9, 7, 4)


def test_chosen_leaves_out_what_follows_from_the_data():
    assert validated(TrainSettings, {"model": {"latent": 2}}).model.chosen() == {
        "latent": 2,
        "members": 4,
        **DEFAULTS,
    }


def test_exponents_without_a_point_are_numbers(write):
    assert load_settings(TrainSettings, write("training: {learning_rate: 1e-4}")).training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "model:\n  latnt: 3\n",
            r"rom\.yaml:2:3: model\.latnt: unknown setting; did you mean model\.latent\?",
        ),
        ("latent: 3\n", r"rom\.yaml:1:1: latent: unknown setting; did you mean model\.latent\?"),
        ("zzzzzz: 3\n", r"zzzzzz: unknown setting; romvae config --example"),
        ("model: {latent: 0}", r"rom\.yaml:1:9: model\.latent = 0: should be greater than or equal to 1"),
        ("model: {latent: 1000000000}", "less than or equal to 4096"),
        ("model: {latent: 1e2}", "should be a whole number, or 'auto'"),
        ("model: {latent: big}", r"model\.latent = big: should be a whole number, or 'auto'"),
        ("model: {latent: yes}", "latent = True: should not be a yes/no value"),
        ("model: 3", "should be a valid dictionary"),
        ("training: {learning_rate: .inf}", "should be a finite number"),
        ("training: {device: gpu}", "should be 'auto', 'cpu' or 'cuda'"),
        ("seed: 1\nseed: 2\n", r"rom\.yaml:2:1: not valid YAML: seed is given twice"),
        ("model: {latent: 1, latent: 2}", "latent is given twice"),
        ("a: &x [1]\nb: *x\n", r"rom\.yaml:2:4: .*aliases"),
        ("seed: !!python/object/apply:os.getcwd []", r"rom\.yaml:1:7: not valid YAML"),
        ("model:\n\tlatent: 3\n", r"rom\.yaml:2:1: not valid YAML"),
        ("model: [1, 2", r"rom\.yaml:1:\d+: not valid YAML"),
        ("? [1]\n: 2\n", "must be plain text"),
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- 1\n", "holds a list, expected a mapping"),
        (b"seed: \xff\n", "byte 6 is not UTF-8"),
        (b"seed: \x00\n", "not valid YAML"),
        ("#" * (MAXIMUM_BYTES + 1), "at most 1000000 bytes"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_bad_files_are_refused_in_one_line_with_the_place(content, message, write):
    path = write(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(TrainSettings, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        read_settings_file(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings_file(tmp_path)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"model\.latent = -1: should be .*; a: unknown"):
        validated(TrainSettings, {"a": 1, "model": {"latent": -1}})


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["seed", "model", "training", "latent", "device", "x"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(names, json_values | st.dictionaries(names, json_values, max_size=3), max_size=4))
def test_any_mapping_is_either_valid_settings_or_a_config_error(data):
    try:
        chosen = validated(TrainSettings, data, "x.yaml")
    except ConfigError as error:
        assert str(error).startswith("x.yaml: ")
        assert len(str(error)) < 1500
    else:
        assert yaml.safe_load(to_yaml(chosen))["seed"] == chosen.seed
