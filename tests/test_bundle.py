"""The bundle: what is saved comes back to the bit, anything else is refused, and nothing is unpickled."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import stable_baselines3
import torch
import yaml
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO

from moe_trader import bundle
from moe_trader.agent import MoEAgent
from moe_trader.bundle import BundleError

FILES = [
    "config.yaml",
    "experts/01_expert_1.zip",
    "experts/02_expert_2.zip",
    "experts/03_expert_3.zip",
    "policy.safetensors",
]


@pytest.fixture(scope="module")
def trained(make_agent):
    """An agent that traded a little, with a gate and experts that say something."""
    agent = make_agent(learning_rate=3e-3)
    return agent.learn(4 * 128)


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "bundle"
    trained.save(path, task={"market": "synthetic", "features": ["a", "b"]})
    return path


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of the bundle that a test may damage."""
    return shutil.copytree(saved, tmp_path / "copied")


def observations_for(agent, n=300):
    rng = np.random.default_rng(2)
    return (2 * rng.normal(size=(n, *agent.model.observation_space.shape))).astype(np.float32)


def assert_same_agent(one, other):
    observations = observations_for(one)
    np.testing.assert_array_equal(one.predict(observations)[0], other.predict(observations)[0])
    np.testing.assert_array_equal(one.gate_weights(observations), other.gate_weights(observations))
    np.testing.assert_array_equal(one.expert_actions(observations), other.expert_actions(observations))
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def edit_manifest(path, **changes):
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rehash(path):
    """What a forger does: make the manifest agree with altered files."""
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit_manifest(path, files={name: bundle.sha256(path / name) for name in files})


# --- saving and loading -----------------------------------------------------------------------------------------------


def test_a_loaded_agent_is_the_saved_one_to_the_bit(trained, saved):
    loaded = MoEAgent.load(saved)
    assert_same_agent(trained, loaded)
    assert loaded.expert_names == trained.expert_names == ["expert_1", "expert_2", "expert_3"]
    assert (loaded.expert, loaded.gating, loaded.seed) == (trained.expert, trained.gating, trained.seed)
    assert loaded.gate_columns == trained.gate_columns
    assert loaded.model.action_space == trained.model.action_space
    assert loaded.model.observation_space == trained.model.observation_space
    weights = loaded.gate_weights(observations_for(loaded))
    assert weights.std(axis=0).min() > 1e-3  # equal for another reason than saying nothing


def test_the_training_is_what_is_saved(saved, make_agent):
    fresh = make_agent(learning_rate=3e-3)
    observations = observations_for(fresh)
    assert not np.array_equal(MoEAgent.load(saved).gate_weights(observations), fresh.gate_weights(observations))


def test_an_agent_on_a_box_action_space_comes_back_too(make_agent, pendulum, tmp_path):
    agent = make_agent(env=pendulum(0), learning_rate=3e-4)
    agent.learn(128)
    agent.save(tmp_path / "bundle")
    assert_same_agent(agent, MoEAgent.load(tmp_path / "bundle"))


def test_a_second_save_gives_the_same_weights_file(trained, saved, tmp_path):
    MoEAgent.load(saved).save(tmp_path / "again")
    for name in ("policy.safetensors", "config.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_the_bundle_holds_what_it_says(trained, saved):
    found = sorted(str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file())
    assert found == sorted([*FILES, "manifest.json"])
    manifest = json.loads((saved / "manifest.json").read_text())
    assert sorted(manifest["files"]) == FILES
    assert manifest["format_version"] == 2
    assert manifest["algorithm"] == "PPO"
    assert manifest["experts"] == ["expert_1", "expert_2", "expert_3"]
    assert manifest["task"] == {"market": "synthetic", "features": ["a", "b"]}
    assert manifest["n_parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert (manifest["seed"], manifest["threads"]) == (0, 1)
    assert manifest["versions"]["stable-baselines3"] == stable_baselines3.__version__
    assert manifest["versions"]["numpy"] == np.__version__
    assert {"python", "moe_trader", "torch"} <= manifest["versions"].keys()


def test_the_task_of_a_real_run_fits_in_a_bundle(trained, prepared, tmp_path):
    trained.save(tmp_path / "bundle", task=prepared.summary())
    task = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["task"]
    assert task["market"] == "synthetic"
    assert task["market_sha256"] == prepared.market.sha256()
    assert task["features"] == prepared.feature_names
    assert len(task["scaler"]) > 0


def test_a_loaded_agent_learns_on(saved, prepared):
    agent = MoEAgent.load(saved, env=prepared.training_env(4, 3))
    before = {name: tensor.clone() for name, tensor in agent.model.named_parameters()}
    agent.learn(256)
    assert agent.algorithm.num_timesteps == 256
    after = dict(agent.model.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_learning_on_starts_where_the_saved_agent_was(saved, prepared, trained):
    agent = MoEAgent.load(saved, env=prepared.training_env(4, 3))
    assert_same_agent(trained, agent)
    (optimised,) = agent.algorithm.policy.optimizer.param_groups[0]["params"]
    loaded = [parameter.flatten() for parameter in agent.model.experts.parameters()]
    assert torch.equal(optimised.sort()[0], torch.cat(loaded).sort()[0])


def test_saving_again_replaces_the_bundle(trained, make_agent, tmp_path):
    path = tmp_path / "bundle"
    make_agent(count=4, seed=8).save(path)
    assert len(list((path / "experts").iterdir())) == 4
    trained.save(path)
    assert len(list((path / "experts").iterdir())) == 3
    assert_same_agent(trained, MoEAgent.load(path))
    assert [child.name for child in tmp_path.iterdir()] == ["bundle"]


def test_a_save_that_fails_leaves_the_old_bundle(trained, make_agent, tmp_path, monkeypatch):
    path = tmp_path / "bundle"
    trained.save(path)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(bundle, "save", full)
    with pytest.raises(OSError, match="no space left"):
        make_agent(seed=8).save(path)
    monkeypatch.undo()
    assert_same_agent(trained, MoEAgent.load(path))
    trained.save(path)  # and what was left half-written is no hindrance
    assert_same_agent(trained, MoEAgent.load(path))


def test_saving_never_deletes_what_is_not_a_bundle(trained, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("years of work")
    with contextlib.suppress(BundleError):  # a refusal is as good as leaving the file alone
        trained.save(tmp_path / "results")
    assert (tmp_path / "results" / "thesis.txt").read_text() == "years of work"


def test_an_empty_directory_is_a_place_to_save_to(trained, tmp_path):
    trained.save(tmp_path)
    assert_same_agent(trained, MoEAgent.load(tmp_path))


# --- experts for others -----------------------------------------------------------------------------------------------

WITHOUT_US = """
import pathlib
import sys
sys.modules["moe_trader"] = None  # any import of it fails
import numpy as np
from stable_baselines3 import PPO
for bundle in map(pathlib.Path, sys.argv[1:]):
    observations = np.load(bundle.with_suffix(".observations.npy"))
    actions = []
    for file in sorted((bundle / "experts").iterdir()):
        model = PPO.load(file, device="cpu")
        assert type(model) is PPO
        actions.append(model.predict(observations, deterministic=True)[0])
    np.save(bundle.with_suffix(".actions.npy"), np.stack(actions, axis=1))
assert not [name for name in sys.modules if name.startswith("moe_trader.")]
"""


def test_experts_open_in_plain_stable_baselines3_without_us(trained, make_agent, pendulum, tmp_path):
    on_box = make_agent(env=pendulum(0), learning_rate=3e-3).learn(3 * 128)
    bundles = {tmp_path / "discrete": trained, tmp_path / "box": on_box}
    for path, agent in bundles.items():
        agent.save(path)
        np.save(path.with_suffix(".observations.npy"), observations_for(agent)[:, agent.layout.experts])
    command = [sys.executable, "-c", WITHOUT_US, *map(str, bundles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path, agent in bundles.items():
        ours = agent.expert_actions(observations_for(agent))
        np.testing.assert_allclose(ours, np.load(path.with_suffix(".actions.npy")), rtol=1e-5, atol=1e-6)
        assert (ours[:, 0] != ours[:, 1]).any()


def test_an_exported_expert_learns_on_in_plain_stable_baselines3(saved, trained, make_settings):
    env = (
        make_settings("env/features=multi_horizon").env.prepare().training_env(4, 1)
    )  # all but what the gate alone saw
    model = PPO.load(saved / "experts" / "02_expert_2.zip", env=env, device="cpu")
    assert (model.gamma, model.n_steps, model.batch_size) == tuple(
        getattr(trained.expert, name) for name in ("gamma", "n_steps", "batch_size")
    )
    critic = model.policy.value_net.weight.clone()
    assert torch.equal(critic, trained.model.experts[1].value_net.weight)
    model.learn(128)
    assert not torch.equal(critic, model.policy.value_net.weight)


# --- safety -----------------------------------------------------------------------------------------------------------


def test_loading_never_unpickles(saved, trained, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("unpickled")

    for module, names in (
        (pickle, ("load", "loads", "Unpickler")),
        (cloudpickle, ("load", "loads")),
        (torch, ("load",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, forbidden)
    with pytest.raises(AssertionError, match="unpickled"):
        PPO.load(saved / "experts" / "01_expert_1.zip", device="cpu")  # the guard is real: this is how SB3 loads
    loaded = MoEAgent.load(saved)
    monkeypatch.undo()
    assert_same_agent(trained, loaded)


def test_a_poisoned_expert_zip_is_not_run(copied, tmp_path, trained):
    target = tmp_path / "owned"
    payload = b"cos\nsystem\n(S'touch %s'\ntR." % str(target).encode()
    with zipfile.ZipFile(copied / "experts" / "01_expert_1.zip", "w") as archive:
        archive.writestr("data", payload)
        archive.writestr("policy.pth", payload)
    rehash(copied)
    assert_same_agent(trained, MoEAgent.load(copied))
    assert not target.exists()


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen"])
def test_a_poisoned_config_is_refused(target, copied):
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["gating"]["_target_"] = target
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    rehash(copied)
    with pytest.raises(BundleError, match=rf"config\.yaml: gating\._target_: '{target}' is outside moe_trader"):
        MoEAgent.load(copied)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_refused(name, copied):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(bytes(content))
    with pytest.raises(
        BundleError, match=rf"{name}: altered since it was saved \(its sha256 is not the manifest's\); copy"
    ):
        MoEAgent.load(copied)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(name, copied):
    (copied / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: missing from the bundle; copy the whole directory again$"):
        MoEAgent.load(copied)


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_path_without_a_bundle_is_refused(where, tmp_path):
    with pytest.raises(
        BundleError, match=r": no bundle here \(no manifest\.json\); give the directory that a run saved, RUN/b"
    ):
        MoEAgent.load(tmp_path / where)


def test_another_format_version_is_refused(copied):
    edit_manifest(copied, format_version=3, versions={"moe_trader": "9.9.9"})
    with pytest.raises(
        BundleError, match=r"format version 3, and moe_trader .* reads version 2; it was .* moe_trader 9\.9\.9"
    ):
        MoEAgent.load(copied)


@pytest.mark.parametrize("kind", ["relative", "absolute", "link"])
def test_a_file_outside_the_bundle_is_refused(kind, copied, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("mine")
    name = {"relative": "../secret.txt", "absolute": str(secret), "link": "inside.txt"}[kind]
    if kind == "link":
        (copied / name).symlink_to(secret)
    manifest = json.loads((copied / "manifest.json").read_text())
    edit_manifest(copied, files={name: bundle.sha256(secret), **manifest["files"]})
    with pytest.raises(
        BundleError, match=rf"names '.*{name[-6:]}', a file outside the bundle; do not trust this bundle$"
    ):
        MoEAgent.load(copied)


@pytest.mark.parametrize("name", ["config.yaml", "policy.safetensors"])
def test_a_manifest_that_does_not_vouch_for_what_is_read_is_refused(name, copied):
    files = json.loads((copied / "manifest.json").read_text())["files"]
    edit_manifest(copied, files={other: digest for other, digest in files.items() if other != name})
    with pytest.raises(BundleError, match=rf"manifest\.json: has no {name}; the bundle is incomplete"):
        MoEAgent.load(copied)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"format_version": 2}',
        '{"format_version": 2, "files": null}',
        '{"format_version": 2, "files": ["config.yaml", "policy.safetensors"]}',
    ],
)
def test_a_manifest_that_is_none_is_refused(text, copied):
    (copied / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json: not a bundle's manifest \("):
        MoEAgent.load(copied)


@pytest.mark.parametrize(
    "key", ["observation_space", "action_space", "gate_columns", "gate_rows", "expert_columns", "seed"]
)
def test_a_manifest_without_what_rebuilds_the_agent_is_refused(key, copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest[key]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=rf"manifest\.json: .*{key}"):
        MoEAgent.load(copied)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("gate_rows", 0, "a number of bars"),
        ("gate_rows", "64", "a number of bars"),
        ("gate_rows", 1000, "a number of bars"),
        ("gate_rows", 2, "the 1 that the gating of config.yaml reads"),
        ("expert_columns", -3, "one or more numbers from 0 to "),
        ("expert_columns", [True], "one or more numbers from 0 to "),
        ("expert_columns", [10**6], "one or more numbers from 0 to "),
        ("expert_columns", [1, 0], "different numbers in ascending order"),
        ("gate_columns", [1, 0], "different numbers in ascending order"),
        ("gate_columns", "abc", "one or more numbers from 0 to "),
        ("gate_columns", [], "one or more numbers from 0 to "),
        ("gate_columns", [0, 10**6], "one or more numbers from 0 to "),
        ("gate_columns", [0, -1], "one or more numbers from 0 to "),
        ("observation_space", {"type": "Box"}, "a space as it was saved"),
        ("observation_space", "Box", "a space as it was saved"),
        ("observation_space", {"type": "Discrete", "n": 3, "start": 0}, "a flat Box"),
        ("action_space", {"type": "Discrete", "n": 0, "start": 0}, "a space as it was saved"),
        ("action_space", {"type": "Tuple"}, "a space as it was saved"),
        ("action_space", None, "a space as it was saved"),
        ("experts", ["a"], "those of config.yaml, expert_1, expert_2, expert_3"),
        ("experts", 3, "one or more names"),
        ("seed", "abc", "a whole number, 0 or more"),
        ("task", None, "a mapping"),
    ],
)
def test_nonsense_in_a_manifest_is_refused(key, value, expected, copied):
    edit_manifest(copied, **{key: value})
    with pytest.raises(BundleError, match=rf"manifest\.json: {key}: expected {expected}.*, got .*; copy the bundle ag"):
        MoEAgent.load(copied)


def test_a_manifest_that_does_not_fit_the_weights_is_refused(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    edit_manifest(copied, gate_columns=manifest["gate_columns"][:-1])
    with pytest.raises(
        BundleError,
        match=r"policy\.safetensors do not fit config\.yaml, or the spaces and gate_columns, .*manifest\.js",
    ):
        MoEAgent.load(copied)


def test_an_environment_of_other_observations_is_refused(saved, pendulum):
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        MoEAgent.load(saved, env=pendulum(0)).learn(128)


# --- malformed bundles ------------------------------------------------------------------------------------------------


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def edit_config(path, change):
    """Change the config of a bundle as a forger does: with its hash."""
    config = yaml.safe_load((path / "config.yaml").read_text())
    change(config)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    rehash(path)


def edit_weights(path, change):
    """Change the weights of a bundle as a forger does."""
    tensors = load_file(path / "policy.safetensors")
    change(tensors)
    save_file(tensors, path / "policy.safetensors")
    rehash(path)


def refusal(path, **how):
    """Return the message of the BundleError, a single line of bearable length."""
    with pytest.raises(BundleError) as caught:
        MoEAgent.load(path, **how)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 4000
    return message


MANIFESTS = {
    "a number": (b"3", "expected a mapping, got 3"),
    "a list": (b"[]", "expected a mapping, got []"),
    "empty": (b"", "Expecting value"),
    "not UTF-8": (b'{"format_version": 2, "a": "\xff"}', "UnicodeDecodeError"),
    "UTF-16": ("{}".encode("utf-16"), "UnicodeDecodeError"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "deep mappings": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "a key that stands twice": (b'{"format_version": 2, "format_version": 2, "files": {}}', "stands twice"),
    "NaN": (b'{"format_version": NaN}', "NaN is not a value of a manifest"),
    "digits": (b'{"format_version": ' + b"1" * 5000 + b"}", "4300 digits"),
    "NUL bytes": (b"\0" * 100, "Expecting value"),
    "large": (b" " * 64_000_001, "larger than 64,000,000 bytes, the limit of a manifest"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_malformed_manifest_is_refused(kind, copied):
    content, reason = MANIFESTS[kind]
    (copied / "manifest.json").write_bytes(content)
    message = refusal(copied)
    assert "manifest.json: " in message
    assert reason in message


@pytest.mark.parametrize("value", [True, 2.0, "2", None, [2], 10**400])
def test_a_format_version_of_another_type_is_refused(value, copied):
    edit_manifest(copied, format_version=value, versions=[1])
    assert "moe_trader unknown" in refusal(copied)


HASH = "0" * 64


@pytest.mark.parametrize(
    ("name", "digest", "reason"),
    [
        ("a\0b", HASH, "expected names of files in the bundle"),
        ("", HASH, "expected names of files in the bundle"),
        (".", HASH, "expected names of files in the bundle"),
        ("experts//x", HASH, "expected names of files in the bundle"),
        ("./config.yaml", HASH, "expected names of files in the bundle"),
        ("manifest.json", HASH, "expected names of files in the bundle"),
        ("\ud800", HASH, "expected names of files in the bundle"),
        ("a\nb", HASH, "expected names of files in the bundle"),
        ("..", HASH, "a file outside the bundle; do not trust this bundle"),
        ("experts/../../x", HASH, "a file outside the bundle; do not trust this bundle"),
        ("/etc/passwd", HASH, "a file outside the bundle; do not trust this bundle"),
        ("experts", HASH, "missing from the bundle"),
        ("a" * 1000, HASH, "cannot be read"),
        ("config.yaml", 3, "expected a sha256 for 'config.yaml', got 3"),
        ("config.yaml", None, "expected a sha256"),
        ("config.yaml", "abc", "expected a sha256"),
        ("config.yaml", [HASH], "expected a sha256"),
        ("config.yaml", "A" * 64, "expected a sha256"),
    ],
)
def test_a_malformed_list_of_files_is_refused(name, digest, reason, copied):
    edit_manifest(copied, files={**manifest_of(copied)["files"], name: digest})
    assert reason in refusal(copied)


def test_a_manifest_whose_files_hold_no_expert_is_refused(copied):
    files = manifest_of(copied)["files"]
    (copied / "experts/02_expert_2.zip").unlink()
    edit_manifest(copied, files={name: one for name, one in files.items() if "02" not in name})
    assert "manifest.json: has no experts/02_expert_2.zip; the bundle is incomplete" in refusal(copied)


@pytest.mark.parametrize("name", ["x.txt", ".DS_Store", "experts/x.zip", "x/y/z.txt"])
def test_a_file_that_is_not_listed_is_refused(name, copied):
    (copied / name).parent.mkdir(parents=True, exist_ok=True)
    (copied / name).write_text("")
    first = "x" if name.startswith("x/") else name
    assert refusal(copied) == f"{copied / first}: not listed in manifest.json; remove it"


@pytest.mark.parametrize("kind", ["directory", "link", "broken link", "loop", "pipe"])
def test_what_is_not_listed_is_refused_whatever_it_is(kind, copied, tmp_path):
    extra = copied / "extra"
    if kind == "directory":
        extra.mkdir()
    elif kind == "pipe":
        os.mkfifo(extra)
    else:
        extra.symlink_to({"link": tmp_path, "broken link": tmp_path / "nowhere", "loop": extra}[kind])
    assert refusal(copied) == f"{extra}: not listed in manifest.json; remove it"


@pytest.mark.parametrize("name", ["manifest.json", *FILES])
@pytest.mark.parametrize("kind", ["directory", "pipe", "loop"])
def test_something_else_in_the_place_of_a_file_is_refused(kind, name, copied):
    file = copied / name
    file.unlink()
    if kind == "directory":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)  # reading it would wait for ever
    else:
        file.symlink_to(file)
    assert ("no bundle here" if name == "manifest.json" else "missing from the bundle") in refusal(copied)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["manifest.json", *FILES])
def test_a_file_that_may_not_be_read_is_refused(name, copied):
    (copied / name).chmod(0)
    assert re.search(rf"{name}: cannot be read \(Permission denied\)$", refusal(copied))


@pytest.mark.parametrize("name", ["manifest.json", *FILES])
def test_an_error_of_the_disk_names_the_file(name, copied, monkeypatch):
    real = Path.open

    def failing(self, *args, **kwargs):
        if self == copied / name:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    assert re.search(rf"{name}: cannot be read \(Permission denied\)$", refusal(copied))


BOX = {"type": "Box", "dtype": "float32", "low": [-1.0, -1.0], "high": [1.0, 1.0]}


@pytest.mark.parametrize("key", ["observation_space", "action_space"])
@pytest.mark.parametrize(
    "space",
    [
        BOX | {"low": [1.0, 2.0]},
        BOX | {"low": [-1.0]},
        BOX | {"low": [], "high": []},
        BOX | {"low": -1.0, "high": 1.0},
        BOX | {"low": [[-1.0, -1.0]], "high": [[1.0, 1.0]]},
        BOX | {"low": ["-1.0", "-1.0"]},
        BOX | {"low": [True, True]},
        BOX | {"low": [None, None]},
        BOX | {"high": [1e300, 1.0]},
        BOX | {"high": [10**400, 1.0]},
        BOX | {"dtype": "object"},
        BOX | {"dtype": "V1000000000"},
        BOX | {"dtype": "float32,float32"},
        BOX | {"dtype": 3},
        BOX | {"dtype": "uint8"},
        {"type": "Discrete", "n": True, "start": 0},
        {"type": "Discrete", "n": 3.0, "start": 0},
        {"type": "Discrete", "n": -1, "start": 0},
        {"type": "Discrete", "n": 10**30, "start": 0},
        {"type": "Discrete", "n": 3, "start": 1},
        {"type": "Discrete", "n": 3},
        {"n": 3},
        [],
    ],
)
def test_a_space_that_is_none_is_refused(space, key, copied):
    edit_manifest(copied, **{key: space})
    assert f"manifest.json: {key}: expected a space as it was saved (" in refusal(copied)


def test_an_action_space_without_bounds_is_refused(copied):
    edit_manifest(copied, action_space=BOX | {"high": [float("inf"), 1.0]})
    assert "manifest.json: action_space: expected finite bounds" in refusal(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gate_rows", True),
        ("gate_rows", 1.0),
        ("seed", True),
        ("seed", -1),
        ("seed", 2**31),
        ("seed", 10**400),
        ("threads", True),
        ("threads", 0),
        ("threads", 1_000_000),
        ("threads", "1"),
        ("gate_columns", [0, 0]),
        ("gate_columns", [0.0]),
        ("experts", []),
        ("experts", [1, 2, 3]),
        ("experts", ["../../x", "b", "c"]),
        ("task", []),
    ],
)
def test_a_value_of_another_type_or_out_of_bounds_is_refused(key, value, copied):
    edit_manifest(copied, **{key: value})
    assert f"manifest.json: {key}: expected " in refusal(copied)


CONFIGS = {
    "not UTF-8": (b"expert: \xff\n", "not valid UTF-8"),
    "empty": (b"", "expected the keys expert and gating, and no other"),
    "a list": (b"- 1\n", "expected the keys expert and gating, and no other"),
    "aliases": (b"a: &a [1]\nexpert: *a\ngating: *a\n", "aliases"),
    "a key that stands twice": (b"expert: 1\nexpert: 2\n", "duplicate key expert"),
    "a tag": (b"expert: !!python/object/apply:os.system [ls]\n", "tag"),
    "deep": (b"[" * 100_000, "nested"),
    "no YAML": (b"a: [", "not valid YAML"),
    "no mapping": (b"expert: 3\ngating: 3\n", "expert: expected a mapping with `_target_`"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_malformed_config_is_refused(kind, copied):
    content, reason = CONFIGS[kind]
    (copied / "config.yaml").write_bytes(content)
    rehash(copied)
    message = refusal(copied)
    assert message.startswith(f"{copied / 'config.yaml'}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("expert", "count", 1_000_000, "less than or equal to 1024"),
        ("expert", "count", True, "valid integer"),
        ("expert", "n_steps", "32", "valid integer"),
        ("expert", "net_arch", [1_000_000_000], "less than or equal to 65536"),
        ("expert", "net_arch", [16] * 1000, "at most 32 items"),
        ("expert", "learning_rate", float("nan"), "finite number"),
        ("expert", "prefix", "../x", "should match pattern"),
        ("expert", "prefix", "x" * 300, "at most 40 characters"),
        ("expert", "_target_", "moe_trader.__main__.x", "expected the full name of an option"),
        ("expert", "_target_", "moe_trader.gating.softmax.Softmax", "activation: unknown setting"),
        ("gating", "hidden_sizes", [1_000_000_000], "less than or equal to 65536"),
        ("gating", "floor", "0.1", "valid number"),
        ("gating", "extra", 1, "unknown setting"),
    ],
)
def test_a_config_out_of_bounds_is_refused(section, key, value, reason, copied):
    edit_config(copied, lambda config: config[section].__setitem__(key, value))
    message = refusal(copied)
    assert message.startswith(f"{copied / 'config.yaml'}: {section}")
    assert reason in message


def test_a_key_that_no_bundle_has_is_refused(copied):
    edit_config(copied, lambda config: config.__setitem__("hydra", {}))
    assert refusal(copied).endswith("config.yaml: expected the keys expert and gating, and no other; copy it again")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("expert", "net_arch", [65_536, 65_536]),
        ("expert", "net_arch", [16]),
        ("gating", "hidden_sizes", [65_536] * 32),
        ("gating", "hidden_sizes", []),
    ],
)
def test_sizes_are_compared_with_the_weights_before_networks_are_made(section, key, value, copied, monkeypatch):
    monkeypatch.setattr(MoEAgent, "_assemble", pytest.fail)
    edit_config(copied, lambda config: config[section].__setitem__(key, value))
    assert "the weights in policy.safetensors do not fit config.yaml" in refusal(copied)


def test_a_space_of_many_actions_is_compared_with_the_weights_too(copied, monkeypatch):
    monkeypatch.setattr(MoEAgent, "_assemble", pytest.fail)
    edit_manifest(copied, action_space={"type": "Discrete", "n": 2**31 - 1, "start": 0})
    assert "the weights in policy.safetensors do not fit config.yaml" in refusal(copied)


@pytest.mark.parametrize(
    "gate", ["softmax", "annealed", "entmax", "top_k", "sticky", "gru", "rule", "uniform", "random"]
)
def test_every_gate_is_compared_without_being_made(gate, make_agent, make_settings, tmp_path, monkeypatch):
    agent = make_agent(gating=make_settings(f"gating={gate}").gating, **({"count": 2} if gate == "rule" else {}))
    agent.save(tmp_path / "bundle")
    loaded = MoEAgent.load(tmp_path / "bundle").model.state_dict()
    assert all(torch.equal(one, loaded[name]) for name, one in agent.model.state_dict().items())
    size = agent.expert.parameters_each(len(agent.layout.experts), agent.model.action_space)
    assert size == sum(parameter.numel() for parameter in agent.model.experts[0].parameters())
    edit_weights(tmp_path / "bundle", lambda tensors: tensors.update(grown(tensors)))
    monkeypatch.setattr(MoEAgent, "_assemble", pytest.fail)
    assert "a gate of {'gate." in refusal(tmp_path / "bundle")


def grown(tensors):
    """Return the gate's tensors with a row more."""
    return {
        name: torch.zeros(len(one) + 1, *one.shape[1:])
        for name, one in tensors.items()
        if name[:5] == "gate." and one.ndim
    }


def test_the_parameters_of_an_expert_on_a_box_are_counted_too(make_agent, pendulum):
    agent = make_agent(env=pendulum(0))
    size = agent.expert.parameters_each(3, agent.model.action_space)
    assert size == sum(parameter.numel() for parameter in agent.model.experts[0].parameters())


@pytest.mark.parametrize("kind", ["NaN", "infinity", "float64", "float16", "int64", "missing", "extra"])
def test_weights_that_are_none_are_refused(kind, copied):
    name = "experts.1.action_net.bias"

    def change(tensors):
        good = tensors.pop(name)
        changed = {
            "NaN": good * float("nan"),
            "infinity": good + float("inf"),
            "float64": good.double(),
            "float16": good.half(),
            "int64": good.long(),
            "extra": good,
        }
        if kind in changed:
            tensors[name] = changed[kind]
        if kind == "extra":
            tensors["other"] = good.clone()

    edit_weights(copied, change)
    message = refusal(copied)
    assert "policy.safetensors" in message
    if kind in ("float64", "float16", "int64"):
        assert f"{name}: expected torch.float32, got torch.{kind}" in message
    elif kind in ("NaN", "infinity"):
        assert f"{name} holds NaN or infinity" in message
    else:
        assert "do not fit" in message


@pytest.mark.parametrize(
    "kind", ["empty", "truncated", "huge header", "no JSON", "a header of lists", "offsets beyond"]
)
def test_a_malformed_file_of_weights_is_refused(kind, copied):
    file = copied / "policy.safetensors"
    content = file.read_bytes()
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    file.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "huge header": (2**63 - 1).to_bytes(8, "little") + content[8:],
            "no JSON": content[:8] + b"x" + content[9:],
            "a header of lists": (2).to_bytes(8, "little") + b"[]",
            "offsets beyond": len(header).to_bytes(8, "little") + header,
        }[kind]
    )
    rehash(copied)
    assert "policy.safetensors: not a file of weights (" in refusal(copied)


def test_weights_that_are_not_finite_are_not_saved(make_agent, tmp_path):
    agent = make_agent()
    with torch.no_grad():
        agent.model.experts[0].action_net.bias[0] = float("nan")
    with pytest.raises(BundleError, match=r"not saved: experts\.0\.action_net\.bias holds NaN or infinity$"):
        agent.save(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", {1: 1, "1": 2}])
def test_a_task_that_could_not_be_read_again_is_not_saved(value, trained, tmp_path):
    with pytest.raises(BundleError, match=r"not saved: a value of its manifest\.json cannot be written as JSON \("):
        trained.save(tmp_path / "bundle", task={"a": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "error"),
    [("a\0b", BundleError), ("file/x", OSError), ("x" * 300, OSError), ("/proc/x/bundle", OSError), ("/", BundleError)],
)
def test_a_place_that_cannot_be_written_is_refused_in_one_line(name, error, trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(error) as caught:
        trained.save(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_saving_leaves_its_neighbours_alone(trained, tmp_path):
    (tmp_path / "bundle.partial").mkdir()
    (tmp_path / "bundle.partial" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    trained.save(tmp_path / "link")
    assert_same_agent(trained, MoEAgent.load(tmp_path / "bundle"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bundle", "bundle.partial", "link"]
    assert (tmp_path / "bundle.partial" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("device", ["meta", "gpu", "cuda:77", "", None, 3])
def test_a_device_that_is_none_is_refused(device, saved):
    with pytest.raises(ValueError, match=r"^device: "):
        MoEAgent.load(saved, device=device)
