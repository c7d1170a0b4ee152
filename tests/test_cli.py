"""The commands as a user types them: whole runs on a small market, in processes of their own."""

import html
import json
import re
import shutil
import signal
import sys

import pandas as pd
import pytest
from commands import EXPERTS, SCRIPTS, SMALL, call, moe_train, only_run, sha256, stopped_train

from moe_trader.agent import MoEAgent
from moe_trader.evaluate import check_task
from moe_trader.option import ConfigError
from moe_trader.rerun import rerun_report

STRATEGIES = [
    "mixture",
    "mixture_sampled",
    "strongest_expert",
    *EXPERTS,
    "uniform_gate",
    "shuffled_gate",
    "oracle_routing",
    "single_policy",
    "random",
    "flat",
    "buy_and_hold",
    "bayes_filter",
]


@pytest.fixture(scope="module")
def first(finished_run, finished_run_printed):
    """One finished run: its directory, and what the command printed."""
    return finished_run, finished_run_printed


def test_a_run_directory_is_complete(first):
    run, _ = first
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    expected = {
        ".hydra/config.yaml",
        "train.log",
        "progress.csv",
        "activations/steps.parquet",
        "activations/by_regime.csv",
        "evaluation/experts.csv",
        "evaluation/comparisons.csv",
        "evaluation/competence.csv",
        "evaluation/specialisation.csv",
        "evaluation/disagreement.csv",
        "evaluation/shapley.csv",
        "evaluation/coalitions.csv",
        "evaluation/attribution.csv",
        "evaluation/equity.parquet",
        "report.html",
        "figures/equity.png",
        "figures/gate.png",
        "figures/regimes.png",
        "figures/learning.png",
        "bundle/manifest.json",
        "bundle/config.yaml",
        "bundle/policy.safetensors",
        "bundle/experts/01_expert_1.zip",
        "bundle/experts/02_expert_2.zip",
        "single_policy/bundle/manifest.json",
        "single_policy/progress.csv",
    }
    assert expected <= files
    assert any(name.startswith("events.out.tfevents") for name in files)


def test_the_end_of_a_run_shows_the_table_and_the_next_step(first):
    run, printed = first
    assert all(f"│ {name} " in printed for name in STRATEGIES)
    assert "the mixture" in printed
    for step in (f"{run.relative_to(run.parents[2])}/report.html", "moe-evaluate outputs", "moe-train rerun outputs"):
        assert step in printed


def test_the_log_file_tells_the_run(first):
    run, _ = first
    log = (run / "train.log").read_text()
    for line in ("Training mixture", "Training single policy", "Evaluating on the test split", "importance expert_1"):
        assert line in log


def test_the_activation_table_has_a_row_for_each_evaluated_bar(first):
    run, _ = first
    steps = pd.read_parquet(run / "activations" / "steps.parquet")
    gates, own = [f"gate_{name}" for name in EXPERTS], [f"own_{name}" for name in EXPERTS]
    columns = ["split", "time", "instrument", "regime", "close", *gates, "position", "reward"]
    columns += ["carried", "traded", "cost", "margin_call", *own]
    assert list(steps.columns) == columns
    assert steps[gates].sum(axis=1).sub(1).abs().max() < 1e-6
    assert set(steps["position"]) <= {-1.0, 0.0, 1.0}
    assert set(steps["regime"]) <= {"trend_up", "trend_down", "mean_reversion", "noise"}
    assert list(steps.groupby("split")["instrument"].nunique()) == [2, 1]
    assert not steps.isna().any().any()


def test_rewards_of_the_table_sum_to_the_performance(first):
    run, _ = first
    steps = pd.read_parquet(run / "activations" / "steps.parquet")
    experts = pd.read_csv(run / "evaluation" / "experts.csv")
    mixture = experts[experts["strategy"] == "mixture"].set_index(["split", "instrument"])["log_return"]
    for place, rewards in steps.groupby(["split", "instrument"])["reward"]:
        assert rewards.sum() == pytest.approx(mixture[place], abs=1e-12)


def test_by_regime_is_the_mean_of_the_steps(first):
    run, _ = first
    steps = pd.read_parquet(run / "activations" / "steps.parquet")
    table = pd.read_csv(run / "activations" / "by_regime.csv")
    assert table["bars"].sum() == len(EXPERTS) * len(steps)
    row = table[(table["bars"] > 0) & (table["expert"] == "expert_2")].iloc[0]
    part = steps[(steps["split"] == row["split"]) & (steps["regime"] == row["regime"])]
    assert row["importance"] == pytest.approx(part["gate_expert_2"].mean())
    assert row["load"] == pytest.approx((part["gate_expert_2"] > part["gate_expert_1"]).mean())


def test_every_strategy_is_in_the_performance_table(first):
    run, _ = first
    experts = pd.read_csv(run / "evaluation" / "experts.csv")
    pooled = experts[(experts["split"] == "test") & (experts["instrument"] == "all")].set_index("strategy")
    assert list(pooled.index) == STRATEGIES
    assert pooled.loc["flat", "log_return"] == 0
    assert pooled.loc["buy_and_hold", "trades"] == 1
    assert (pooled["log_return_low"] <= pooled["log_return"]).all()
    assert (pooled["log_return_high"] >= pooled["log_return"]).all()
    one = experts[(experts["split"] == "test") & (experts["instrument"] != "all")]
    assert one.groupby("strategy")["log_return"].mean()["mixture"] == pytest.approx(pooled.loc["mixture", "log_return"])


def test_the_report_is_one_self_contained_page(first):
    run, _ = first
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6  # two of them of the validations
    assert "http://" not in page
    assert "https://" not in page
    assert all(name.replace("_", " ") in page for name in STRATEGIES)
    assert "Oracle routing uses the market&#39;s true regimes: a reference, not tradable." in page


def test_the_manifest_says_what_the_agent_needs(saved_bundle):
    manifest = json.loads((saved_bundle / "manifest.json").read_text())
    assert manifest["experts"] == EXPERTS
    assert manifest["task"]["features"][0] == "return_1"
    assert len(manifest["task"]["fitted"]["regime_probabilities"]["model"]["volatility"]) == 2
    assert len(manifest["task"]["scaler"]["mean"]) == len(manifest["task"]["features"])
    assert manifest["files"]["policy.safetensors"] == sha256(saved_bundle / "policy.safetensors")


def test_evaluating_a_saved_run_gives_its_tables_to_the_last_bit(first, tmp_path):
    run, _ = first
    done = call(SCRIPTS / "moe-evaluate", run, "--output", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Identical to the tables of" in done.stdout
    for table in ("evaluation/experts.csv", "evaluation/competence.csv", "activations/steps.parquet"):
        assert sha256(tmp_path / "again" / table) == sha256(run / table)


def test_what_was_fitted_for_the_agent_is_what_it_is_evaluated_with(finished_run, copy_of, evaluate_here):
    changed = copy_of(finished_run)
    manifest = json.loads((changed / "bundle" / "manifest.json").read_text())
    manifest["task"]["fitted"]["regime_probabilities"]["model"]["volatility"] = [1e-3, 5e-2]
    (changed / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    code, printed = evaluate_here(changed)
    assert code == 3, printed
    assert "Not the run's own tables:" in printed


def test_a_rerun_is_identical_and_says_so(first, tmp_path):
    run, _ = first
    done = moe_train("rerun", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Identical to" in done.stdout
    assert only_run(tmp_path) != run
    for file in ("bundle/policy.safetensors", "activations/steps.parquet", "evaluation/experts.csv"):
        assert sha256(only_run(tmp_path) / file) == sha256(run / file)


def test_another_seed_is_another_run_and_it_is_said_in_what(seeds):
    run, _ = seeds
    report = rerun_report(run / "seed_1", run / "seed_2")
    assert report.startswith(
        f"Differs from {run / 'seed_1'} in: weights of the mixture, weights of the single policy, "
    )


def test_an_oracles_run_says_everywhere_that_nobody_can_trade_it(run_once, evaluate_here):
    """And what the gate alone sees, here the regimes of two bars, is there again in an evaluation."""
    gate = "gating=oracle", "gating/losses=switching", "single_policy=false"
    folder = run_once("oracle", *gate, "seeds=2", "shapley=false", "hydra.run.dir=run")
    warning = "The oracle gate sees the market's true regimes: what its mixture earns is not tradable."
    run, printed = folder / "run", (folder / "stdout.txt").read_text()
    assert printed.count(warning) == 1  # one seed shows it, in train.log both do
    assert re.search(rf"WARNING seed [01]: {re.escape(warning)}", printed)
    assert {f"seed {seed}: {warning}" in (run / "train.log").read_text() for seed in (0, 1)} == {True}
    assert warning in html.unescape((run / "seed_1" / "report.html").read_text())
    assert html.unescape((run / "report.html").read_text()).count(warning) == 1  # not for each seed
    code, again = evaluate_here(run / "seed_1")
    assert code == 0, again
    assert warning in again


@pytest.fixture(scope="module")
def seeds(run_of_seeds, run_of_seeds_printed):
    """A run of the seeds 1 and 2, and what it printed."""
    return run_of_seeds, run_of_seeds_printed


def test_a_rerun_of_several_seeds_says_which_one_differs(run_of_seeds, copy_of):
    run, copy = run_of_seeds, copy_of(run_of_seeds)
    (copy / "seed_2" / "evaluation" / "experts.csv").write_text("another\n")
    report = rerun_report(run, copy)
    assert (
        f"Identical to {run}, to the last bit: seed 1; Seed 2: Differs from {run / 'seed_2'} in: performance" in report
    )
    manifest = copy / "seed_1" / "bundle" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["task"]["market_sha256"] = "0" * 64
    manifest.write_text(json.dumps(told))
    assert "to the last bit: weights" in (report := rerun_report(run, copy))
    assert "; the prices are not those of the original run; Seed 2: Differs" in report
    shutil.rmtree(copy / "seed_1")
    assert f"Seed 1 is in {run} alone; Seed 2: Differs" in rerun_report(run, copy)


def test_a_directory_of_several_seeds_is_no_run_of_one(seeds, evaluate_here, tmp_path):
    run, _ = seeds
    code, said = evaluate_here(run)
    assert code == 1
    assert f"{run}: holds a run of several seeds; give one of them, such as {run / 'seed_1'}" in said
    used = moe_train(*SMALL, f"hydra.run.dir={run}", cwd=tmp_path)
    assert f"hydra.run.dir: {run} holds a run already; choose another directory" in used.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["seeds=1e3"], "seeds: Input should be a valid integer, got 1000.0"),
        (["seeds=0"], "seeds: Input should be greater than 0, got 0"),
        (["seeds_at_once=0"], "seeds_at_once: Input should be greater than 0, got 0"),
        (["trainer.parallel_seeds=0"], "seeds: Input should be greater than 0, got 0"),
        (["seed=2147483647", "seeds=2"], "seed: with seeds=2 the last is 2147483648; the greatest is 2147483647"),
    ],
)
def test_seeds_that_there_are_not_are_refused(given, message, make_settings):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_settings(*given)


def test_a_run_that_diverges_ends_in_one_line_and_keeps_its_weights(tmp_path):
    """Of several seeds each has its line and saves its own; the traceback is in its log file."""
    rate = ["expert.learning_rate=1e30", "expert.final_learning_rate=1e30"]
    done = moe_train(*SMALL, *rate, "seeds=2", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2
    logs = "run/seed_0/train.log, run/seed_1/train.log"
    assert f"\nSeeds 0, 1 of 2 failed, see {logs}. To go on: moe-train resume run\n" in done.stderr
    line = (
        r"mixture: training diverged at step 128: train/value_loss is inf in minibatch 2 of the update; lower "
        r"expert.learning_rate \(now 1e\+30\) or expert.max_grad_norm \(now 1\); the last finite weights were saved to "
    )
    assert "Traceback" not in done.stdout + done.stderr
    for seed in (0, 1):
        run = tmp_path / "run" / f"seed_{seed}"
        found = re.findall(f"ERROR Seed {seed} failed: {line}.*/run/seed_{seed}/bundle$", done.stdout, re.MULTILINE)
        assert len(found) == 1
        assert "Traceback" in (run / "train.log").read_text()
        agent = MoEAgent.load(run / "bundle")
        agent.predict(agent.model.observation_space.sample())


def test_hydra_s_own_way_to_a_saved_config_works(first, tmp_path):
    run, _ = first
    less = "single_policy=false", "shapley=false"
    done = moe_train("--config-path", run / ".hydra", "--config-name", "config", *less, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    repeated = only_run(tmp_path)
    assert sha256(repeated / "bundle/policy.safetensors") == sha256(run / "bundle/policy.safetensors")


def test_a_rerun_on_other_prices_says_so(finished_run, copy_of):
    """Whether weights differ for want of determinism or of the same data is not the same."""
    run, copy = finished_run, copy_of(finished_run)
    manifest = json.loads((copy / "bundle/manifest.json").read_text())
    manifest["task"]["market_sha256"] = "0" * 64
    (copy / "bundle/manifest.json").write_text(json.dumps(manifest))
    report = rerun_report(copy, run)
    assert report.startswith(f"Identical to {copy}, to the last bit")
    assert report.endswith("; the prices are not those of the original run")
    assert "prices" not in rerun_report(run, run)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_saves_the_mixture_as_it_is(stop, code, tmp_path):
    long = *SMALL, "trainer.total_timesteps=10000000", "hydra.run.dir=run"
    begun = tmp_path / "run" / "progress.csv"
    left, printed = stopped_train(*long, stop=stop, begun=begun, cwd=tmp_path)
    assert left == code, printed
    assert re.search(
        r"Stopped after [\d,]+ steps; the newest checkpoint is of step [\d,]+; the mixture was saved", printed
    )
    assert printed.rstrip().endswith("Interrupted. To go on: moe-train resume run")
    assert "Traceback" not in printed
    assert MoEAgent.load(tmp_path / "run" / "bundle").expert_names == EXPERTS


def test_a_sweep_leaves_a_run_directory_for_each_job(tmp_path):
    """Here over the folds of a walk forward, whose tests follow each other."""
    folds = "env/split=walk_forward", "env.split.train=0.5", "env.split.validation=0.3", "env.split.folds=3"
    less = "single_policy=false", "shapley=false"
    done = moe_train("-m", *SMALL, *folds, "env.split.fold=range(0,2)", *less, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in tmp_path.glob("outputs/multirun/*/*/*/report.html"))
    assert [run.name for run in runs] == ["0", "1"]
    assert "INFO Process-1: Run directory" in done.stdout  # side by side, so every line says whose it is
    assert sha256(runs[0] / "bundle/policy.safetensors") != sha256(runs[1] / "bundle/policy.safetensors")
    first, second = (
        pd.read_parquet(run / "activations/steps.parquet").query("split == 'test'")["time"] for run in runs
    )
    assert first.max() < second.min()


def test_the_module_is_the_command(tmp_path):
    done = call(sys.executable, "-m", "moe_trader", "--version", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("moe_trader ")
    done = call(sys.executable, "-m", "moe_trader.train", "--cfg", "job", "expert.count=3", cwd=tmp_path)
    assert done.returncode == 0
    assert "count: 3" in done.stdout


def test_help_lists_the_options_without_loading_torch(tmp_path):
    done = call(sys.executable, "-X", "importtime", "-m", "moe_trader", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for line in (
        "env: ccxt, csv, nasdaq, parquet, sp500, stocks, synthetic, yahoo",
        "moe-train rerun RUN",
        "gating: annealed, entmax, gru, oracle, random, rule, softmax, sparsemax, sticky, top_k, uniform",
    ):
        assert line in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in loaded
    assert not loaded & {"torch", "stable_baselines3", "pandas", "matplotlib"}


@pytest.mark.parametrize(
    ("overrides", "place", "reason"),
    [
        (["gating=sofmax"], "gating/sofmax", "Available options in 'gating':\n\tannealed"),
        (["expert.batch_size=100000"], "expert.batch_size", "more than one rollout holds"),
    ],
)
def test_a_wrong_setting_is_refused_before_training(overrides, place, reason, tmp_path):
    done = moe_train(*overrides, cwd=tmp_path)
    assert done.returncode == 1
    assert place in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert "Training mixture" not in done.stdout


def test_a_market_without_a_column_is_refused_before_training(tmp_path):
    (tmp_path / "bars.csv").write_text("date,open,high,low\n2020-01-01,1,1,1\n")
    done = moe_train("env=csv", "env.path=bars.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "bars.csv: missing column close" in done.stderr
    assert "columns there: date, open, high, low" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Training mixture" not in done.stdout


def test_a_directory_that_holds_a_run_is_not_used_again(first, tmp_path):
    run, _ = first
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    done = moe_train(*SMALL, f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.returncode == 1
    reason = (
        f"ConfigError: hydra.run.dir: {run} holds a run already; choose another directory, or go on with that run: "
    )
    assert done.stderr == f"{reason}moe-train resume {run}\n"
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_config_that_is_not_the_agents_is_refused(finished_run, copy_of, evaluate_here):
    changed = copy_of(finished_run)
    config = changed / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("window: 1", "window: 2"))
    code, said = evaluate_here(changed)
    assert code == 1
    assert said.startswith("ConfigError: env.window: ")
    assert "the agent was trained with 1; restore the config of the run, or train again" in said


def test_a_gate_that_would_see_something_else_is_refused(first):
    run, _ = first
    saved = json.loads((run / "bundle" / "manifest.json").read_text())["task"]
    assert saved["gate_features"] == ["trend", "volatility", "autocorrelation", "regime_probabilities"]
    assert saved["gate_sight"] == {"rows": 1, "of": "features"}
    config = re.escape(str(run / ".hydra" / "config.yaml"))
    for key, other, where in (
        ("gate_features", ["trend"], r"env\.gate_features"),
        ("gate_sight", {"rows": 32, "of": "features"}, r"gating\.rows and what else makes the gate's input"),
        ("gate_labels", {"_target_": "other"}, r"env\.gate_labels"),
    ):
        said = rf"^{where}: {config} says {re.escape(str(other))}, and the agent was trained with "
        with pytest.raises(ConfigError, match=said + rf"{re.escape(str(saved[key]))}; restore the config of the run"):
            check_task(saved | {key: other}, saved, run)


def test_a_run_whose_gate_reads_fewer_bars_than_it_did_is_refused(make_settings, tmp_path):
    def shown(rows):
        made = make_settings("gating=sticky", f"gating.rows={rows}")
        return made.env.prepare(gate_input=made.gating.gate_input()).summary()

    with pytest.raises(ConfigError, match=r"^gating\.rows and what else makes the gate's input: ") as refused:
        check_task(shown(32), shown(64), tmp_path)
    assert "says {'rows': 32, 'of': 'features'}, and the agent was trained with {'rows': 64, 'of'" in str(refused.value)


@pytest.mark.parametrize("command", [("moe-evaluate", "nowhere"), ("moe-train", "rerun", "nowhere")])
def test_a_directory_that_is_no_run_is_refused(command, tmp_path):
    done = call(SCRIPTS / command[0], *command[1:], cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere: not a run directory (no .hydra/config.yaml there); give one that moe-train made" in done.stderr


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("env.market.columns.time=日期", "'env.market.columns.time=\"日期\"'"),
        ("env.market.columns.close=Schluß [EUR]", "'env.market.columns.close=\"Schluß [EUR]\"'"),
        ("env.path=a=b.csv", "'env.path=\"a=b.csv\"'"),
        ("env.market.symbols=[^GSPC,KO]", "'env.market.symbols=[\"^GSPC\",KO]'"),
    ],
)
def test_a_value_that_hydra_cannot_read_is_printed_in_quotes(word, quoted):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    from moe_trader.command import check_overrides

    with pytest.raises(SystemExit) as refused:
        check_overrides(["env=csv", word])
    path, _, value = word.partition("=")
    assert str(refused.value) == f"{path}: {value} holds characters that need quotes; write {quoted}"
    (pasted,) = shlex.split(quoted)
    read = OverridesParser.create().parse_override(pasted).value()
    assert read == (["^GSPC", "KO"] if "[^" in value else value)


def test_values_that_hydra_can_read_and_mistakes_that_quotes_cannot_help_are_left_to_hydra():
    from moe_trader.command import check_overrides

    check_overrides(
        ["--cfg", "job", "env.path='a=b.csv'", "env.split.fold=range(0,3)", "seed=1,2", "~env.x", "env..x=1"]
    )
