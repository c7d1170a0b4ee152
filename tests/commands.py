"""The commands as a user types them, in processes of their own, and the small run that tests type."""

import hashlib
import os
import subprocess
import sysconfig
from pathlib import Path

SCRIPTS = Path(sysconfig.get_path("scripts"))
SMALL = [
    "env=synthetic",
    "env.market.bars=700",
    "env.market.series={train: 2, validation: 1, test: 2}",
    "expert.count=2",
    "expert.net_arch=[16]",
    "expert.n_steps=32",
    "expert.batch_size=64",
    "expert.n_epochs=2",
    "trainer.n_envs=4",
    "trainer.total_timesteps=1024",
]
EXPERTS = ["expert_1", "expert_2"]


def call(*command, cwd, **environment):
    """Run a command; warnings are errors there too."""
    settings = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "200", **environment}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=settings, capture_output=True, text=True, timeout=300, check=False
    )


def moe_train(*arguments, cwd):
    return call(SCRIPTS / "moe-train", *arguments, cwd=cwd)


def only_run(cwd):
    (found,) = sorted(path.parent for path in cwd.glob("outputs/*/*/.hydra"))
    return found


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()
