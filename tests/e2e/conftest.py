"""A small copy of the project: the shipped data thinned, everything else as it is, run by DVC as a user would."""

import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
#: One alert in so many is kept, of the scans' alerts and of all others.
THINNED_FLOODS, THINNED = 200, 10
#: Events kept of each file of the endpoints' captures and of the networks.
MAX_ROWS = 12_000


class Project:
    """A folder with the project in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the folder."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=900
        )

    def set(self, section: str, **values: object) -> None:
        """Change parameters of one section."""
        path = self.folder / "params.yaml"
        document = yaml.safe_load(path.read_text())
        document[section] |= values
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def copy(self, folder: Path) -> "Project":
        """Return a second project with the same state."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a small project after `dvc repro`."""
    project = small_project(tmp_path_factory.mktemp("project") / "small")
    done = project.run("dvc", "repro")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return project


def small_project(folder: Path) -> Project:
    """Lay out code, notebooks and thinned data in a folder, outside version control."""
    folder.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("eguard", "pipelines", "notebooks", "data/indicators"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in (".dvcignore", "dvc.yaml", "params.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    raw = folder / "data" / "raw"
    raw.mkdir()
    for source in sorted((ROOT / "data" / "raw").iterdir()):
        if source.name != "alerts-ait":
            (raw / source.name).symlink_to(source)
    thin_alerts(ROOT / "data" / "raw" / "alerts-ait", raw / "alerts-ait")
    project = Project(folder)
    project.set("ingest", max_rows=MAX_ROWS)
    allowed = yaml.safe_load((folder / "params.yaml").read_text())["feature_gate"]["may_be_constant"]
    thinned = {"z3_anomaly_med": "thinned captures close too few windows"}
    project.set("feature_gate", may_be_constant={**allowed, **thinned})
    project.set("train", resource_profile="tiny", bootstrap_replicates=20)
    project.set("offline_eval", bootstrap_replicates=20, ablation_rows=2000)
    project.set("calibrate", simulations=20)
    initialised = project.run("dvc", "init", "--no-scm", "--quiet")
    assert initialised.returncode == 0, initialised.stderr
    project.run("dvc", "config", "core.analytics", "false")
    return project


def thin_alerts(source: Path, target: Path) -> None:
    """Keep some of each network's alerts, its scans thinned harder, so that every network and attack is still there."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.name.endswith(".csv.xz"):
            header, *rows = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
            is_flood = [row.rstrip().endswith((b"dirb", b"wpscan")) for row in rows]
            kept = [
                row
                for number, (row, flood) in enumerate(zip(rows, is_flood, strict=True))
                if number % (THINNED_FLOODS if flood else THINNED) == 0
            ]
            (target / path.name).write_bytes(lzma.compress(header + b"".join(kept), preset=0))
        else:
            shutil.copy(path, target / path.name)
