"""The bundle: what is saved comes back to the bit, anything else is refused, and nothing is unpickled."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import subprocess
import sys
import zipfile

import cloudpickle
import numpy as np
import pytest
import stable_baselines3
import torch
import yaml
from stable_baselines3 import PPO

from moe_trader import bundle
from moe_trader.agent import MoEAgent
from moe_trader.bundle import BundleError
from moe_trader.option import ConfigError

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
    return (2 * rng.normal(size=(n, *agent.policy.observation_space.shape))).astype(np.float32)


def assert_same_agent(one, other):
    observations = observations_for(one)
    np.testing.assert_array_equal(one.predict(observations)[0], other.predict(observations)[0])
    np.testing.assert_array_equal(one.gate_weights(observations), other.gate_weights(observations))
    np.testing.assert_array_equal(one.expert_actions(observations), other.expert_actions(observations))
    ours, theirs = one.policy.state_dict(), other.policy.state_dict()
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
    assert loaded.policy.action_space == trained.policy.action_space
    assert loaded.policy.observation_space == trained.policy.observation_space
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
    assert manifest["n_parameters"] == sum(p.numel() for p in trained.policy.parameters())
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
    before = {name: tensor.clone() for name, tensor in agent.policy.named_parameters()}
    agent.learn(256)
    assert agent.algorithm.num_timesteps == 256
    after = dict(agent.policy.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_learning_on_starts_where_the_saved_agent_was(saved, prepared, trained):
    agent = MoEAgent.load(saved, env=prepared.training_env(4, 3))
    assert_same_agent(trained, agent)
    (optimised,) = agent.policy.optimizer.param_groups[0]["params"]
    loaded = [parameter.flatten() for parameter in agent.policy.experts.parameters()]
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

    monkeypatch.setattr(bundle, "save_file", full)
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
        np.save(path.with_suffix(".observations.npy"), observations_for(agent)[:, agent.view.experts])
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
    assert torch.equal(critic, trained.policy.experts[1].value_net.weight)
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
    with pytest.raises(ConfigError, match=rf"^gating\._target_: '{target}' is outside moe_trader"):
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
        ("expert_columns", [1, 0], "numbers in ascending order"),
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
        BundleError, match=r"policy\.safetensors do not fit the spaces and gate_columns, .*manifest\.js"
    ):
        MoEAgent.load(copied)


def test_an_environment_of_other_observations_is_refused(saved, pendulum):
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        MoEAgent.load(saved, env=pendulum(0)).learn(128)
