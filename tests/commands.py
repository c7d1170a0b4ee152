"""The commands as a user types them, in processes of their own, and the small run that tests type."""

import hashlib
import os
import subprocess
import sys
import sysconfig
import time
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
# What a shell starts in the background inherits a Ctrl-C that is ignored, these tests and all that they start.
HEAR_CTRL_C = "import os, signal as s, sys; s.signal(s.SIGINT, s.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def call(*command, cwd, **environment):
    """Run a command; warnings are errors there too."""
    settings = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "200", **environment}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=settings, capture_output=True, text=True, timeout=300, check=False
    )


def moe_train(*arguments, cwd):
    return call(SCRIPTS / "moe-train", *arguments, cwd=cwd)


def stopped_train(*arguments, stop, begun, cwd, group=False):
    """Run ``moe-train`` until the files ``begun`` have a line, and send it a signal; return exit status and output.

    :param group: whether the signal goes to the processes that it started too, as a terminal's Ctrl-C does
    """
    files = [begun] if isinstance(begun, Path) else begun
    command = [sys.executable, "-c", HEAR_CTRL_C, SCRIPTS / "moe-train", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=cwd, start_new_session=group, **pipes) as run:
        try:
            for _ in range(3000):
                if run.poll() is not None or all(file.is_file() and file.stat().st_size > 0 for file in files):
                    break
                time.sleep(0.1)
            os.killpg(run.pid, stop) if group else run.send_signal(stop)
            printed, _ = run.communicate(timeout=300)
        finally:
            run.kill()
    return run.returncode, printed


def only_run(cwd):
    (found,) = sorted(path.parent for path in cwd.glob("outputs/*/*/.hydra"))
    return found


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()
