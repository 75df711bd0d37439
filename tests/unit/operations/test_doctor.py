import pytest

from eguard.errors import BaselineStoreError, ConfigError
from eguard.operations import CHECKS, SYMPTOMS, Examination, run_checks
from eguard.operations.check import ok
from eguard.operations.doctor import CheckEntry
from eguard.sensor import Availability


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_every_check_exists_and_says_what_it_checks(name):
    function = CHECKS[name].load(name)
    assert function.__doc__.startswith("Check ")


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.checks[0])
def test_every_symptom_is_explained_by_checks_that_exist(symptom):
    assert symptom.checks
    assert set(symptom.checks) <= set(CHECKS)


def test_all_checks_run_in_their_order_with_progress(settings):
    steps = []
    examination = Examination(settings(), skip_sensors=True)
    checks = run_checks(examination, progress=lambda *step: steps.append(step))
    assert [check.name for check in checks] == list(CHECKS)
    assert steps[0] == ("checks", 0, len(CHECKS))
    assert steps[-1] == ("checks", len(CHECKS), len(CHECKS))
    assert [check.name for check in checks if check.state in {"failed", "warning"} and not check.remedy] == []


def test_a_check_that_does_not_exist_is_a_usage_error(settings):
    with pytest.raises(ConfigError, match="'clok'") as caught:
        run_checks(Examination(settings()), ["clok"])
    assert "clock" in caught.value.remedy


def test_without_settings_the_machine_is_still_checked():
    error = ConfigError("EGUARD_SENSOR='x': ...", remedy="Correct or unset EGUARD_SENSOR.")
    found = {c.name: c for c in run_checks(Examination(None, settings_error=error, skip_sensors=True))}
    assert (found["settings"].state, found["settings"].remedy) == ("failed", error.remedy)
    assert (found["python"].state, found["clock"].state) == ("ok", "ok")
    skipped = {name for name, check in found.items() if "the settings cannot be read" in check.cause}
    assert skipped == {name for name, entry in CHECKS.items() if entry.needs_settings}


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [
        (OSError(5, "Input/output error", "/secret"), "failed", "Input/output error: /secret"),
        (BaselineStoreError("no", remedy="yes"), "failed", "no"),
        (ModuleNotFoundError("No module", name="tuf"), "skipped", "'tuf' is not installed"),
    ],
    ids=["system", "eguard", "package"],
)
def test_a_check_that_breaks_off_does_not_stop_the_others(settings, monkeypatch, error, state, says):
    def broken(_self, name):
        def check(_examination):
            if name == "python":
                raise error
            return ok("fine")

        return check

    monkeypatch.setattr(CheckEntry, "load", broken)
    first, second = run_checks(Examination(settings()), ("python", "packages"))
    assert (first.state, says in first.cause) == (state, True)
    assert second.state == "ok"


@pytest.mark.parametrize(("user", "state"), [(0, "failed"), (1000, "skipped")], ids=["root", "somebody"])
def test_what_is_closed_to_this_user_is_a_failure_for_root_alone(settings, monkeypatch, user, state):
    def closed(_folder):
        raise PermissionError(13, "Permission denied", "/var/lib/eguard/baseline")

    monkeypatch.setattr("eguard.operations.examination.os.listdir", closed)
    monkeypatch.setattr("eguard.operations.doctor.os.geteuid", lambda: user)
    clock, store = run_checks(Examination(settings()), ("baseline_store", "clock"))
    assert (store.state, "Permission denied: /var/lib/eguard/baseline" in store.cause) == (state, True)
    assert "sudo eguard doctor" in store.cause + store.remedy
    assert clock.state == "ok"


def test_what_is_in_the_way_of_ebpf_comes_first(settings, machine):
    (machine.modules / "build").unlink()
    examination = Examination(settings(), root=machine.root)
    examination.sensors = [
        Availability("ebpf", works=False, reason="refused", remedy="Choose another."),
        Availability("psutil", works=True),
    ]
    found = run_checks(examination, ("kernel", "kernel_headers", "tracefs", "ebpf"))[-1]
    assert found.remedy == "See first: kernel_headers. Choose another."


def test_settings_of_a_file_are_named_with_their_origin(settings, tmp_path):
    (tmp_path / "agent.toml").write_text("max_profiles = 5\n")
    found = run_checks(Examination(settings(max_profiles=5), config=tmp_path / "agent.toml"), ("settings",))[0]
    assert found.cause == "set here: EGUARD_MAX_PROFILES (file)"
