import json
import shutil

import pytest

from eguard.bundle import BundleClient

ALL = ("bundle_signature", "bundle_expiry", "bundle_content")


@pytest.fixture
def trusting(settings):
    """Return settings of an agent that was enrolled with a repository's root."""

    def make(repository, **changes):
        kept = repository.directory.parent / "trusted-root.json"
        kept.write_bytes((repository.metadata_dir / "1.root.json").read_bytes())
        return settings(**({"bundle_repository": str(repository.directory), "bundle_root": kept} | changes))

    return make


@pytest.mark.parametrize("name", ALL)
def test_a_whole_bundle_is_fine(examine, publish, trusting, name):
    assert examine(name, with_settings=trusting(publish())).state == "ok"


@pytest.mark.parametrize("name", ALL)
def test_without_a_repository_there_is_nothing_to_check(examine, name):
    assert examine(name).state == "skipped"


def test_an_address_of_a_folder_is_a_folder(examine, publish, trusting):
    repository = publish()
    found = examine(
        "bundle_signature", with_settings=trusting(repository, bundle_repository=repository.directory.as_uri())
    )
    assert found.state == "ok"


def test_a_root_found_beside_what_it_signs_is_a_warning(examine, publish, settings):
    here = settings(bundle_repository=str(publish().directory))
    found = examine("bundle_signature", with_settings=here)
    assert (found.state, "trust on first use" in found.cause) == ("warning", True)
    assert "EGUARD_BUNDLE_ROOT" in found.remedy


def test_the_root_that_the_agent_trusted_first_counts_from_then_on(examine, publish, settings, tmp_path):
    repository = publish()
    here = settings(bundle_repository=str(repository.directory))
    pin = here.state_path / "bundle" / "root.json"
    pin.parent.mkdir(parents=True)
    pin.write_bytes((repository.metadata_dir / "1.root.json").read_bytes())
    assert examine("bundle_signature", with_settings=here).state == "ok"
    shutil.rmtree(repository.directory)
    shutil.rmtree(tmp_path / "keys")
    publish()
    found = examine("bundle_signature", with_settings=here)
    assert (found.state, "is not the root that this machine trusted first" in found.cause) == ("failed", True)


def tamper(repository):
    path = next((repository.targets_dir / "models").glob("*.signature-ml-model.json"))
    path.write_bytes(path.read_bytes()[:-1] + b" ")


def forge(repository):
    path = repository.metadata_dir / "timestamp.json"
    document = json.loads(path.read_bytes())
    document["signed"]["version"] += 1
    path.write_bytes(json.dumps(document).encode())


BREAKAGES = {
    "tampered file": (tamper, "differs from what was signed"),
    "forged timestamp": (forge, "timestamp"),
    "torn timestamp": (lambda r: (r.metadata_dir / "timestamp.json").write_bytes(b"{"), "damaged"),
    "gone": (lambda r: shutil.rmtree(r.directory), "cannot be read"),
}


@pytest.mark.parametrize("case", sorted(BREAKAGES))
def test_what_does_not_verify_is_told_and_its_content_left_alone(examine, publish, trusting, case):
    damage, says = BREAKAGES[case]
    repository = publish()
    here = trusting(repository)
    damage(repository)
    found = examine("bundle_signature", with_settings=here)
    assert (found.state, says in found.cause) == ("failed", True), found
    assert found.remedy
    assert examine("bundle_content", with_settings=here).state == "skipped"


def test_another_root_is_told_from_the_trusted_one(examine, publish, trusting, tmp_path):
    here = trusting(publish())
    shutil.rmtree(tmp_path / "repository")
    shutil.rmtree(tmp_path / "keys")
    publish()
    found = examine("bundle_signature", with_settings=here)
    assert (found.state, "handed out at enrolment" in found.remedy) == ("failed", True)


def test_a_root_that_cannot_be_read_is_told(examine, publish, trusting, tmp_path):
    found = examine("bundle_signature", with_settings=trusting(publish(), bundle_root=tmp_path / "nowhere.json"))
    assert (found.state, "nowhere.json cannot be read" in found.cause) == ("failed", True)


def test_versions_that_the_agent_has_seen_count(examine, publish, trusting, tmp_path):
    repository = publish()
    here = trusting(repository)
    old = tmp_path / "old"
    shutil.copytree(repository.directory, old)
    repository.refresh()
    client = BundleClient(
        here.state_path / "bundle" / "repository", repository.directory.as_uri(), here.bundle_root.read_bytes()
    )
    client.fetch()
    shutil.rmtree(repository.directory)
    old.rename(repository.directory)
    found = examine("bundle_signature", with_settings=here)
    assert (found.state, "this machine has seen" in found.cause) == ("failed", True), found


@pytest.mark.parametrize(
    ("age_days", "state", "says"),
    [
        (0.0, "ok", "days left: root 365.0"),
        (1.8, "warning", "about to expire: timestamp, snapshot"),
        (3.0, "failed", "expired: timestamp, snapshot"),
        (40.0, "failed", "expired: timestamp, snapshot, nightly"),
    ],
    ids=["fresh", "soon", "stale", "old"],
)
def test_expiry_is_told_role_by_role(examine, publish, trusting, age_days, state, says):
    here = trusting(publish(age_days=age_days))
    found = examine("bundle_expiry", with_settings=here)
    assert (found.state, says in found.cause) == (state, True), found
    if state == "failed":
        signature = examine("bundle_signature", with_settings=here)
        assert (signature.state, "stale" in signature.cause) == ("failed", True)
        assert "eguard bundle refresh" in signature.remedy


def test_counts_that_differ_from_the_release_are_told(examine, publish, trusting):
    found = examine("bundle_content", with_settings=trusting(publish(miscount=1)))
    assert found.state == "failed"
    assert "indicators.json: the loader counts 1 records, the release had 2" in found.cause


def test_a_bundle_that_missed_a_gate_is_told(examine, publish, trusting):
    repository = publish(promoted=False)
    found = examine("bundle_content", with_settings=trusting(repository))
    assert (found.state, "missed a quality gate" in found.cause) == ("warning", True)
    assert examine("bundle_content", with_settings=trusting(repository, allow_unpromoted=True)).state == "ok"


def test_another_place_than_this_machine_is_refused(examine, settings):
    found = examine("bundle_signature", with_settings=settings(bundle_repository="https://bundles.example/"))
    assert (found.state, "is no folder of this machine" in found.cause) == ("failed", True)


def test_looking_leaves_the_agents_state_alone(examine, publish, trusting):
    here = trusting(publish())
    examine("bundle_signature", with_settings=here)
    assert not here.state_path.exists()
