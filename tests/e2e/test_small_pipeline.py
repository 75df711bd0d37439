"""The main job on thinned data: DVC, the gates, the bundle, the notebooks and the report, as a user runs them."""

import json

import nbformat
import pytest

from eguard.mlops.headline import HEADLINES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.xdist_group("project"),  # one reproduction serves them all
]


def read(project, name):
    return json.loads((project.folder / "reports" / name).read_text())


def test_the_second_run_has_nothing_to_do(reproduced):
    again = reproduced.run("dvc", "repro")
    assert again.returncode == 0
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout


def test_the_metrics_are_a_table_of_headlines(reproduced):
    shown = reproduced.run("dvc", "metrics", "show", "--json")
    figures = json.loads(shown.stdout)[""]["data"]
    for name in (name for stage in HEADLINES.values() for name in stage):
        figure = figures[f"reports/metrics/{name}.json"]["data"]
        assert figure["value"] >= 0.0
        assert figure.get("low", 0.0) <= figure["value"] <= figure.get("high", figure["value"])


def test_every_notebook_ran_to_its_end_and_draws(reproduced):
    pages = sorted((reproduced.folder / "notebooks").glob("*.ipynb"))
    assert len(pages) >= 5
    for page in pages:
        notebook = nbformat.read(reproduced.folder / "reports" / page.name, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        assert all(cell.execution_count for cell in code), page.name
        kinds = {kind for cell in code for output in cell.outputs for kind in output.get("data", {})}
        assert "image/png" in kinds or "image/svg+xml" in kinds, page.name
        assert (reproduced.folder / "reports" / page.with_suffix(".html").name).stat().st_size > 10_000
    assert (reproduced.folder / "reports" / "evidence-report.pdf").read_bytes().startswith(b"%PDF")


def test_the_bundle_is_verified_and_one_changed_bit_is_not(reproduced, tmp_path):
    sound = reproduced.run("eguard", "bundle", "verify", "--json")
    assert sound.returncode == 0, sound.stderr
    spoiled = reproduced.copy(tmp_path / "spoiled")
    target = next((spoiled.folder / "bundles" / "repository" / "targets").rglob("*signature-ml-model.json"))
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.chmod(0o644)
    target.write_bytes(content)
    refused = spoiled.run("eguard", "bundle", "verify")
    assert refused.returncode == 1
    assert "models/signature-ml-model.json differs from what was signed" in refused.stderr


def test_permuted_labels_bring_the_headline_to_chance(reproduced, tmp_path):
    permuted = reproduced.copy(tmp_path / "permuted")
    permuted.set("corpus", permute_labels=True)
    done = permuted.run("dvc", "repro", "offline_eval")
    assert done.returncode == 0, done.stderr
    report = read(permuted, "signature-ml-offline-eval-report.json")["unseen_networks"]["mean_average_precision"]
    assert report["without_floods"]["value"] == pytest.approx(report["chance"], abs=0.04)
    real = read(reproduced, "signature-ml-offline-eval-report.json")["unseen_networks"]["mean_average_precision"]
    assert real["without_floods"]["value"] > real["chance"] + 0.15


def test_a_copy_elsewhere_builds_the_same_targets(reproduced, tmp_path):
    elsewhere = reproduced.copy(tmp_path / "a" / "folder with blanks")
    before = targets(elsewhere)
    for stage in ("train", "calibrate", "bundle"):
        done = elsewhere.run("dvc", "repro", "--single-item", "--force", stage)
        assert done.returncode == 0, done.stderr
    assert targets(elsewhere) == before


def test_a_missed_gate_ends_the_run_and_says_which(reproduced, tmp_path):
    strict = reproduced.copy(tmp_path / "strict")
    strict.set("label_gate", min_positive=10**9)
    done = strict.run("dvc", "repro", "label_gate")
    assert done.returncode != 0
    assert "min_positive" in done.stderr or "positive" in done.stderr
    assert read(strict, "label-quality.json")["passed"] is False


def targets(project):
    folder = project.folder / "bundles" / "targets"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
