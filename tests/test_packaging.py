"""The wheel is complete: commands, configs and the report's template work from it alone."""

import os
import subprocess
import sys
import zipfile

from conftest import ROOT


def test_the_wheel_runs_where_the_checkout_is_not(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    on_disk = {path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"moe_trader/conf/{name}" for name in on_disk} <= names
    assert "moe_trader/evaluation/report.html.j2" in names
    assert not any(name.startswith(("tests/", "conf/")) for name in names)

    # Isolated from the checkout: only what the wheel holds can answer.
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import moe_trader.train as t; print(t.__file__)"
    )
    command = [sys.executable, "-c", f"{program}; t.main(['--cfg', 'job', 'env=synthetic'])"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout.splitlines()[0]
    assert "moe_trader.env.synthetic.Synthetic" in done.stdout
