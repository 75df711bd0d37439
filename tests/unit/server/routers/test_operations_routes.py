"""Metrics, health and bundles over HTTP."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eguard.bundle.keys import generate_keys
from eguard.bundle.repository import Repository
from eguard.errors import FleetStoreError
from eguard.fleet.database import Database
from eguard.server.pki.files import pki_folder


def test_metrics_are_text_for_anyone_on_the_administration_listener(nobody, analyst, a1):
    analyst.get("/api/v1/endpoint/event")
    answer = nobody.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    routes = {sample.labels["route"] for sample in families["eguard_http_requests"].samples}
    assert "/api/v1/endpoint/event" in routes
    assert families["eguard_agents"].samples[0].value == 2.0
    assert a1.get("/metrics").status_code == 404


def test_a_path_that_no_route_has_makes_one_series(nobody):
    for number in range(5):
        nobody.get(f"/nothing/{number}")
    families = {family.name: family for family in text_string_to_metric_families(nobody.get("/metrics").text)}
    routes = [sample.labels["route"] for sample in families["eguard_http_requests"].samples]
    assert [route for route in routes if "nothing" in route] == []
    assert "unknown" in routes


def test_alive_answers_on_both_listeners(nobody, a1):
    assert nobody.get("/healthz").json() == a1.get("/healthz").json() == {"status": "alive"}


def test_ready_names_every_check(nobody, a1):
    answer = nobody.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert [(check["name"], check["ok"]) for check in answer.json()["checks"]] == [
        ("database", True),
        ("migrations", True),
        ("authority", True),
    ]
    assert a1.get("/readyz").status_code == 404


def failed(answer):
    assert (answer.status_code, answer.json()["status"]) == (503, "unready")
    return {check["name"]: check for check in answer.json()["checks"] if not check["ok"]}


def test_a_lost_authority_is_said_with_a_remedy_and_without_a_path(context, nobody):
    pki_folder(context.settings).authority_file.unlink()
    answer = nobody.get("/readyz")
    assert "eguard server pki init" in failed(answer)["authority"]["remedy"]
    assert str(context.settings.server_state_path) not in answer.text


def test_tables_of_another_version_are_said_with_a_remedy(context, nobody, tmp_path):
    context.database = Database(f"sqlite:///{tmp_path}/empty.db")
    faults = failed(nobody.get("/readyz"))
    assert set(faults) == {"migrations"}
    assert "eguard server migrate" in faults["migrations"]["remedy"]
    context.database.dispose()


def test_a_database_that_is_away_is_said_and_counted(context, nobody, monkeypatch):
    def refuse():
        raise FleetStoreError("no route to db.secret.example", reason="database_unavailable")

    monkeypatch.setattr(context.database, "read", refuse)
    answer = nobody.get("/readyz")
    assert set(failed(answer)) == {"database", "migrations"}
    assert "secret" not in answer.text
    assert 'eguard_database_errors_total{reason="database_unavailable"}' in nobody.get("/metrics").text
    assert nobody.get("/healthz").status_code == 200


def test_a_route_that_the_database_refuses_is_answered_and_counted(context, analyst, nobody, monkeypatch):
    def refuse():
        raise FleetStoreError("no route to db.secret.example", reason="database_unavailable")

    monkeypatch.setattr(context.database, "read", refuse)
    answer = analyst.get("/api/v1/endpoint/event")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert "secret" not in answer.text
    metrics = nobody.get("/metrics").text
    assert 'eguard_database_errors_total{reason="database_unavailable"} 1.0' in metrics


@pytest.fixture
def published(context):
    folder = context.settings.repository
    rules = b'["rule"]' * 40_000
    Repository(folder, generate_keys(folder.parent / "release-keys")).publish({"rules.json": rules})
    (folder.parent / "secret.txt").write_text("secret")
    return folder


def test_bundles_come_whole_with_a_tag_that_saves_the_next_fetch(published, a1, analyst):
    (target,) = (published / "targets").iterdir()
    path = f"/api/v1/bundles/targets/{target.name}"
    first = a1.get(path)
    assert first.content == target.read_bytes()
    assert first.headers["content-length"] == str(target.stat().st_size)
    again = a1.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert a1.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    metadata = a1.get("/api/v1/bundles/metadata/timestamp.json")
    assert metadata.content == (published / "metadata" / "timestamp.json").read_bytes()
    assert analyst.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "metadata/2.root.json",
        "metadata/..%2f..%2fsecret.txt",
        "metadata/%2e%2e/%2e%2e/secret.txt",
        "targets/..%2F..%2Fsecret.txt",
        "targets/%2Fetc%2Fpasswd",
        "targets/",
        "metadata/",
        "targets/x%00.json",
    ],
)
def test_no_path_leads_out_of_the_repository(published, a1, path):
    answer = a1.get(f"/api/v1/bundles/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.json()["code"]


def test_what_is_offered_is_said_before_it_is_fetched(context, a1):
    assert a1.get("/api/v1/endpoint/threat-intel/version").json()["code"] == "no_bundles"
    folder = context.settings.repository
    Repository(folder, generate_keys(folder.parent / "release-keys")).publish({"rules.json": b"[]"})
    version = a1.get("/api/v1/endpoint/threat-intel/version").json()
    assert version["versions"]["targets"] >= 1
    assert version["model_version"] is None
