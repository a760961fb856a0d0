"""The configuration: every mistake in it is named with its file and key."""

import dataclasses
import re

import pytest

from services.common.config import describe, example, load_settings, toml_text
from services.common.errors import Reason, ServiceError
from services.common.settings import Settings


@pytest.fixture
def write(tmp_path):
    def _write(text):
        file = tmp_path / "llmspell.toml"
        file.write_text(text)
        return file

    return _write


def refused(file=None, environment=None, overrides=()):
    with pytest.raises(ServiceError) as caught:
        load_settings(file, environment or {}, overrides)
    assert caught.value.reason == Reason.CONFIG_INVALID
    return caught.value


def test_without_anything_the_defaults_hold():
    """No file, no environment, no flags: the code's defaults."""
    assert load_settings(None, {}) == Settings()


def test_the_later_source_wins(write):
    """Defaults < file < environment < flags, and the last flag of two."""
    file = write("[vector]\nlisten = 'file:1'\ndata = 'file'\nexact_threshold = 5\n")
    environment = {"LLMSPELL__VECTOR__LISTEN": "env:1", "LLMSPELL__VECTOR__DATA": "env"}
    flags = ["vector.listen=first:1", "vector.listen=flag:1"]
    vector = load_settings(file, environment, flags).vector
    assert vector.listen == "flag:1"
    assert vector.data == "env"
    assert vector.exact_threshold == 5
    assert vector.engine == "embedded"


def test_other_variables_are_not_ours():
    """Only names with two underscores are settings."""
    others = {"LLMSPELL_CONFIG": "x", "LLMSPELL_ADDRESS": "y", "PATH": "z"}
    assert load_settings(None, others) == Settings()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[vektor]\n", "vektor", "did you mean vector"),
        ("[vector]\nlissten = 'x'\n", "vector.lissten", "did you mean listen"),
        ("[vector]\nzzz = 1\n", "vector.zzz", "known are"),
        ("listen = 'x'\n", "listen", "known are"),
        ("[vector.listen]\na = 1\n", "vector.listen", "must be text in quotes"),
        ("vector = 3\n", "vector", "must be a table"),
        ("[[vector]]\nlisten = 'x'\n", "vector", "must be a table"),
    ],
)
def test_an_unknown_name_is_named_with_its_neighbour(write, text, key, hint):
    """File, key and what was probably meant."""
    file = write(text)
    error = refused(file)
    assert error.metadata == {"file": str(file), "key": key}
    assert error.message.startswith(f"{file}: {key} ")
    assert hint in error.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("listen = 5", "text in quotes"),
        ("listen = true", "text in quotes"),
        ("listen = ['x']", "text in quotes"),
        ("exact_threshold = '5'", "a whole number"),
        ("exact_threshold = 5.0", "a whole number"),
        ("exact_threshold = true", "a whole number"),
        ("sweep_interval_s = '1'", "a number"),
        ("sweep_interval_s = true", "a number"),
        ("sweep_interval_s = 2020-01-01", "a number"),
        ("reflection = 1", "a boolean"),
        ("reflection = 'yes'", "a boolean"),
        ("exact_threshold = 0", "more than 0"),
        ("exact_threshold = -1", "more than 0"),
        ("sweep_interval_s = 0", "more than 0"),
        ("sweep_interval_s = nan", "finite"),
        ("sweep_interval_s = inf", "finite"),
        ("sweep_interval_s = -inf", "finite"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wanted(write, line, words):
    """Nothing is converted behind the reader's back; NaN and infinity are no durations."""
    file = write(f"[vector]\n{line}\n")
    error = refused(file)
    assert words in error.message
    assert error.metadata["key"] == f"vector.{line.partition(' ')[0]}"
    assert str(file) in error.message


def test_a_whole_number_will_do_for_seconds(write):
    """`1` is as good as `1.0` where a fraction is allowed."""
    interval = load_settings(write("[vector]\nsweep_interval_s = 2\n"), {}).vector.sweep_interval_s
    assert interval == 2.0
    assert isinstance(interval, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("no", False)],
)
def test_booleans_as_text(text, value):
    """Outside the file a boolean is one of six words."""
    assert load_settings(None, {"LLMSPELL__GATEWAY__REFLECTION": text}).gateway.reflection is value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LLMSPELL__GATEWAY__REFLECTION", "maybe"),
        ("LLMSPELL__VECTOR__EXACT_THRESHOLD", "5.5"),
        ("LLMSPELL__VECTOR__EXACT_THRESHOLD", ""),
        ("LLMSPELL__VECTOR__SWEEP_INTERVAL_S", "nan"),
        ("LLMSPELL__VECTOR__SWEEP_INTERVAL_S", "soon"),
        ("LLMSPELL__VEKTOR__LISTEN", "x"),
        ("LLMSPELL__VECTOR", "x"),
        ("LLMSPELL__VECTOR__LISTEN__MORE", "x"),
    ],
)
def test_a_wrong_variable_is_named(name, text):
    """The error names the variable."""
    error = refused(environment={name: text})
    assert error.message.startswith(name)
    assert error.metadata["file"] == name


@pytest.mark.parametrize("flag", ["vector.listen", "vector", "", "=x", "vector.zzz=1", "a.b=c"])
def test_a_wrong_flag_is_named(flag):
    """A flag without `=` sets nothing; it is refused (found in review)."""
    assert "--set" in refused(overrides=[flag]).message


def test_an_equals_sign_may_be_in_a_value():
    """Only the first one divides."""
    settings = load_settings(None, {}, ["vector.openai_base_url=http://x/?a=b"])
    assert settings.vector.openai_base_url == "http://x/?a=b"


def test_a_rule_between_fields_names_file_and_key(write):
    """What `__post_init__` refuses is an error like any other."""
    file = write("[telemetry]\nlog_level = 'loud'\n")
    error = refused(file)
    assert error.metadata == {"file": str(file), "key": "telemetry.log_level"}
    assert "debug, info, warning or error" in error.message


@pytest.mark.parametrize("content", [b"[vector", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_what_is_not_toml_is_named(tmp_path, content):
    """The file, and where in it."""
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    assert f"{file} is not TOML" in refused(file).message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A missing file and a folder."""
    assert f"{tmp_path / 'none'} cannot be read" in refused(tmp_path / "none").message
    assert f"{tmp_path} cannot be read" in refused(tmp_path).message


def test_the_example_is_the_defaults(write):
    """Uncommented and read back it is what the code says; as it is, it changes nothing."""
    text = example()
    assert load_settings(write(text), {}) == Settings()
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert len(re.findall(r"^\w+ = ", uncommented, re.MULTILINE)) == len(describe())
    assert load_settings(write(uncommented), {}) == Settings()


def test_every_setting_has_a_meaning():
    """Each key of each table is described by a sentence, with its type and default."""
    rows = describe()
    keys = [
        (table.name, key.name)
        for table in dataclasses.fields(Settings)
        for key in dataclasses.fields(getattr(Settings(), table.name))
    ]
    assert [(table, key) for table, key, *_ in rows] == keys
    assert all(meaning.endswith(".") for *_, meaning in rows)
    assert {kind for _, _, kind, *_ in rows} <= {"str", "int", "float", "bool"}


@pytest.mark.parametrize(
    "value", [True, 5, 0.25, 1e300, "", 'a"b', "a\\b", "a\nb\t\x01", "\x7f", "é漢", "C:\\x"]
)
def test_any_value_is_written_as_toml(write, value):
    """What is printed can be read back."""
    import tomllib

    assert tomllib.loads(f"x = {toml_text(value)}") == {"x": value}
