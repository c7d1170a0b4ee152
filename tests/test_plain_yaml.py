"""YAML files of plain values: read as Hydra reads them, and refused in one line where they are anything else."""

import os
import re
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from moe_trader.config import compose, config_directory
from moe_trader.plain_yaml import MAX_BYTES, load_yaml

LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def test_a_saved_config_is_read_as_omegaconf_reads_it(tmp_path):
    file = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(compose(["env=synthetic"])), file)
    assert load_yaml(file) == OmegaConf.to_container(OmegaConf.load(file))


@pytest.mark.parametrize("text", ["1e-3", "1_000", "on", "2020-01-01", "'1e5'", ".nan", "~", "-.5", "0x1F", "é"])
def test_a_value_is_read_as_omegaconf_reads_it(text, tmp_path):
    (tmp_path / "a.yaml").write_text(f"a: {text}\n", encoding="utf-8")
    ours, theirs = load_yaml(tmp_path / "a.yaml")["a"], OmegaConf.load(tmp_path / "a.yaml")["a"]
    assert (type(ours), repr(ours)) == (type(theirs), repr(theirs))


def test_a_file_of_the_package_is_read():
    assert load_yaml(Path(config_directory()) / "train.yaml")["seed"] == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LAUGHS.encode(), r"line 1: YAML anchors and aliases \(&, \*\) are not read; write the value in full"),
        (b"a: 1\nb: *a\n", r"line 2: YAML anchors and aliases"),
        (b"a: &a 1\n", r"line 1: YAML anchors and aliases"),
        (b"a: {<<: {b: 1}}\n", r"line 1: the YAML merge key \(<<\) is not read; write the values in full"),
        (b"a: !!python/object/apply:os.getcwd []\n", r"line 1: the YAML tag 'tag:yaml\.org,2002:python/object/apply:"),
        (b"a: !!binary aGVsbG8=\n", r"line 1: the YAML tag '.*:binary' is not read; write the plain value"),
        (b"a: \xff\n", r"not valid UTF-8 \(byte 3\); save the file as UTF-8"),
        (b"a: [1\n", r"line 2: not valid YAML \(.*\)"),
        (b"a: 1\n--- \nb: 2\n", r"line 2: not valid YAML \(but found another document\)"),
        (b"a: \x00\n", r"unacceptable character #x0000: special characters are not allowed"),
        (b"a: 1\na: 2\n", r"line 2: not valid YAML \(found duplicate key a\)"),
        (b"1: 1\n0x1: 2\n", r"line 1: a key stands twice in this mapping"),
        (b"? [a]\n: 2\n", r"line 1: not valid YAML \(found unhashable key\)"),
        (b"[" * 101 + b"]" * 101, r"line 1: nested more than 100 levels deep"),
        (b"[" * 100_000, r"line 1: nested more than 100 levels deep"),
        (b"a: " + b"9" * 101, r"line 1: a number of more than 100 characters"),
        (b"a: 1" + b":1" * 200_000, r"line 1: a number of more than 100 characters"),
        (b"a: 0x_\n", r"invalid literal for int\(\) with base 16: ''"),
        (b"#" * (MAX_BYTES + 1), r"larger than 500,000 bytes, the limit of a config"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(content, reason, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: {reason}") as caught:
        load_yaml(file)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 5


def test_a_depth_of_the_limit_is_read(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 100 + "]" * 100)
    assert len(str(load_yaml(tmp_path / "deep.yaml"))) == 200


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("none", "No such file or directory"), (".", "not a regular file"), ("pipe", "not a regular")):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path / name))}: {reason}"):
            load_yaml(tmp_path / name)
