"""One round of the fleet's loop, step by step, with the rows that prove each.

A server with its own authority; agents that enrol with a token and learn from recordings of real hosts; their uploads,
one aggregation, the seeds that come back, the uploads that say so; then the kill switch, timed, and a certificate that
is revoked. Everything runs as programs of its own over mutual TLS, and every step is a command that anybody can type.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from eguard.errors import SimulationError
from eguard.fleet.database import Database
from eguard.settings.server import DATABASE_NAME
from eguard.simulate.programs import Service, run_command

#: Hosts of the shipped recordings: two offices of one network and one of another.
DEFAULT_HOSTS: Final = ("workstation6.theshire.local", "workstation5.theshire.local", "acct01.pandalab.com")
DEFAULT_RECORDING: Final = Path("data/raw/endpoint-events/events.csv.gz")
_LEARN_SECONDS: Final = 180.0
_EXCHANGE_SECONDS: Final = 60.0
_SWITCH_SECONDS: Final = 5.0
_REVOKE_SECONDS: Final = 60.0
_ADVANCE: Final = "eguard policy advance loop-rollout"
_SETTLED_SECONDS: Final = 5.0
#: Rows of the database, as the operations manual asks for them.
_ENROLLED: Final = """
    SELECT agent_id, serial, not_after FROM endpoint_certificate ORDER BY agent_id
"""
_UPLOADED: Final = """
    SELECT b.agent_id, a.baseline_status, COUNT(*), SUM(b.sample_count)
    FROM endpoint_baseline b JOIN endpoint_agent a ON a.agent_id = b.agent_id
    GROUP BY b.agent_id, a.baseline_status ORDER BY b.agent_id
"""
_PUBLISHED: Final = """
    SELECT process_key, agent_count, computed_at FROM fleet_baseline
    ORDER BY agent_count DESC, process_key LIMIT 8
"""
_SEEDED: Final = """
    SELECT agent_id, prior_generation, COUNT(*) FROM endpoint_baseline
    WHERE prior_generation IS NOT NULL GROUP BY agent_id, prior_generation ORDER BY agent_id
"""
Rows = tuple[tuple[Any, ...], ...]
#: What a fleet does in quarters of an hour happens here within seconds.
_QUICK: Final = {
    "EGUARD_HEARTBEAT_SECONDS": "1",
    "EGUARD_BASELINE_UPLOAD_SECONDS": "2",
    "EGUARD_FLEET_SEED_SECONDS": "2",
    # Recordings of weeks pass in seconds; the baselines are to be learning still when the seeds come.
    "EGUARD_LEARNING_SECONDS": "1000000000",
}


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What to run.

    Parameters
    ----------
    folder : Path
        Where everything is kept; made if missing.
    recording : Path
        Events of real hosts.
    hosts : sequence of str
        Hosts of the recording, one agent each; three or more.
    database_url : str
        The fleet's database; SQLite in the folder if empty.
    """

    folder: Path
    recording: Path = DEFAULT_RECORDING
    hosts: Sequence[str] = DEFAULT_HOSTS
    database_url: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: its title, the command for it, and what came of it.

    `facts` are single values, `rows` a table under `columns`.
    """

    title: str
    command: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    rows: Rows = ()


@dataclass(slots=True)
class _Fleet:
    """What the steps share."""

    options: LoopOptions
    opened: ExitStack
    server: Service | None = None
    server_settings: dict[str, str] = field(default_factory=dict)
    api_settings: dict[str, str] = field(default_factory=dict)
    agent_address: str = ""
    agents: dict[str, Service] = field(default_factory=dict)

    def agent_settings(self, agent_id: str) -> dict[str, str]:
        return {
            **_QUICK,
            "EGUARD_AGENT_ID": agent_id,
            "EGUARD_STATE_PATH": str(self.options.folder / agent_id),
            "EGUARD_SERVER": self.agent_address,
        }

    def operator(self, *arguments: str, input_text: str = "") -> Any:
        """Run a command against the server's interface."""
        return run_command([*arguments, "--json"], self.api_settings, input_text)

    def query(self, text: str) -> Rows:
        """Return rows of the fleet's database."""
        url = self.options.database_url or f"sqlite:///{self.options.folder / 'server' / DATABASE_NAME}"
        database = Database(url)
        try:
            with database.read() as connection:
                return tuple(tuple(row) for row in connection.execute(sa.text(text)))
        finally:
            database.dispose()

    def committed_at(self, action: str) -> float:
        """Return when the latest record of an action was written to the audit log."""
        ((at,),) = self.query(f"SELECT MAX(at) FROM audit_log WHERE action = '{action}'")  # noqa: S608 - its own word
        when = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
        return when.replace(tzinfo=UTC).timestamp()

    def console(self, *arguments: str, as_json: bool = True) -> Any:
        """Run a command on the server's machine."""
        return run_command([*arguments, *(["--json"] if as_json else [])], self.server_settings)


def run_loop(options: LoopOptions) -> Iterator[Step]:
    """Run the loop and yield each step when it is done.

    Raises
    ------
    SimulationError
        A step did not come out; the message says which program said what.
    """
    if len(options.hosts) < 3:
        raise SimulationError("the fleet publishes what three agents agree on; name three hosts or more")
    if (options.folder / "server").exists():
        raise SimulationError(
            f"{options.folder} holds an earlier run", remedy="Remove it, or name another folder with --folder."
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        fleet = _Fleet(options, opened)
        for step in (
            _make_authority,
            _start_server,
            _enrol,
            _learn_and_upload,
            _aggregate,
            _seed,
            _upload_again,
            _roll_out,
            _switch_off,
            _revoke,
            _verify_audit,
        ):
            yield step(fleet)


def _make_authority(fleet: _Fleet) -> Step:
    folder = fleet.options.folder / "server"
    fleet.server_settings = {
        "EGUARD_SERVER_STATE_PATH": str(folder),
        "EGUARD_AGENT_LISTEN": "127.0.0.1:0",
        "EGUARD_ADMIN_LISTEN": "127.0.0.1:0",
        "EGUARD_DATABASE_URL": fleet.options.database_url,
        "EGUARD_AGGREGATION_MIN_AGENT_AGE_SECONDS": "0",
    }
    made = fleet.console("server", "pki", "init", "--name", "127.0.0.1", "--name", "localhost")
    return Step("A certificate authority of its own", "eguard server pki init --name 127.0.0.1", made)


def _start_server(fleet: _Fleet) -> Step:
    folder = fleet.options.folder
    fleet.server = Service("the server", ["server", "run"], fleet.server_settings, folder / "server.log")
    fleet.opened.callback(fleet.server.stop)
    said = fleet.server.wait_for("server is listening")
    authority = str(folder / "server" / "pki" / "ca.pem")
    token = folder / "operator.token"
    token.unlink(missing_ok=True)
    fleet.console("server", "token", "access", "create", "operator", "--role", "admin", "--out", str(token))
    fleet.api_settings = {
        "EGUARD_API": f"https://127.0.0.1:{said['admin_port']}",
        "EGUARD_API_TOKEN_FILE": str(token),
        "EGUARD_TLS_CA": authority,
    }
    fleet.agent_address = f"https://127.0.0.1:{said['agent_port']}"
    facts = {"agents": fleet.agent_address, "administration": fleet.api_settings["EGUARD_API"]}
    return Step("The server", "eguard server run", facts)


def _enrol(fleet: _Fleet) -> Step:
    folder = fleet.options.folder
    command = "eguard agent enroll --ca authority.pem --token-file enrolment.token"
    for number, host in enumerate(fleet.options.hosts):
        # A token each: agents that came by one token have a tenth of a key's votes together, or one vote.
        token = folder / f"enrolment-{number}.token"
        token.unlink(missing_ok=True)
        fleet.console("server", "token", "create", "--out", str(token))
        arguments = ["agent", "enroll", "--ca", fleet.api_settings["EGUARD_TLS_CA"], "--token-file", str(token)]
        run_command([*arguments, "--json"], fleet.agent_settings(host))
    columns = ("agent", "certificate", "until")
    return Step("Agents enrol: their keys stay with them", command, {}, columns, fleet.query(_ENROLLED))


def _learn_and_upload(fleet: _Fleet) -> Step:
    command = f"eguard agent run --source replay --file {fleet.options.recording} --host HOST --linger 3600"
    for host in fleet.options.hosts:
        arguments = [host if word == "HOST" else word for word in command.split()[1:]]
        service = Service(host, arguments, fleet.agent_settings(host), fleet.options.folder / f"{host}.log")
        fleet.opened.callback(service.stop)
        fleet.agents[host] = service
    for service in fleet.agents.values():
        service.wait_for("mtls channel established", _LEARN_SECONDS)
        service.wait_for("recording has ended", _LEARN_SECONDS)
        service.wait_for("uploaded baseline profile batch", _EXCHANGE_SECONDS)
    _until_settled(fleet)
    columns = ("agent", "baseline", "rows in endpoint_baseline", "events in them")
    return Step("Agents learn real hosts and upload", command, {}, columns, fleet.query(_UPLOADED))


def _until_settled(fleet: _Fleet) -> None:
    """Wait until every agent has rows in the database and no more come."""
    before: Rows = ()
    until = time.monotonic() + _EXCHANGE_SECONDS
    while time.monotonic() < until:
        rows = fleet.query(_UPLOADED)
        if len(rows) == len(fleet.options.hosts) and rows == before:
            return
        before = rows
        time.sleep(_SETTLED_SECONDS)
    raise SimulationError(f"uploads went on for {_EXCHANGE_SECONDS:.0f} s, or an agent has none", rows=before)


def _aggregate(fleet: _Fleet) -> Step:
    report = fleet.operator("fleet", "aggregate")
    if not report["aggregated"]:
        raise SimulationError("the aggregation published no key", report=report)
    facts = {name: report[name] for name in ("generation", "aggregated", "skipped", "agents", "votes", "duration_ms")}
    columns = ("process key", "agents", "computed at")
    rows = fleet.query(_PUBLISHED)
    return Step("The server aggregates what they agree on", "eguard fleet aggregate", facts, columns, rows)


def _seed(fleet: _Fleet) -> Step:
    rows = []
    for host, service in fleet.agents.items():
        said = service.wait_for("applied fleet baseline seed profiles", _EXCHANGE_SECONDS)
        rows.append((host, said["generation"], said["rows"], said["profiles_seeded"]))
    columns = ("agent", "generation", "rows fetched", "profiles with a seed")
    return Step("Agents take it as a prior", "", {}, columns, tuple(rows))


def _upload_again(fleet: _Fleet) -> Step:
    until = time.monotonic() + _EXCHANGE_SECONDS
    while len(rows := fleet.query(_SEEDED)) < len(fleet.options.hosts):
        if time.monotonic() > until:
            raise SimulationError("an agent did not say which seed it uses", rows=rows)
        time.sleep(_SETTLED_SECONDS)
    columns = ("agent", "generation it uses", "rows that say so")
    return Step("They upload their own counts again, and say which seed they use", "", {}, columns, rows)


def _roll_out(fleet: _Fleet) -> Step:
    shares = {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}
    posted = {"policy_id": "loop-rollout", "policy_version": "v1", "policy_json": shares}
    fleet.operator("policy", "create", "-", input_text=json.dumps(posted))
    fleet.operator("policy", "assign", "loop-rollout", "--group", "default")
    stages = [fleet.operator("policy", "preview", "--percent", "0", "--policy", "loop-rollout") | {"stage_percent": 0}]
    # A stage of half an hour is what the drill has no time for; everything else about it is real.
    forced = ("--force", "--reason", "drill of the fleet's loop")
    stages += [fleet.operator("policy", "advance", "loop-rollout", "--to", share, *forced) for share in ("1", "5")]
    for service in fleet.agents.values():
        service.wait_for("updated baseline upload canary percent from policy", _EXCHANGE_SECONDS, percent=5.0)
    rows = tuple((f"{stage['stage_percent']} %", stage["cohort_size"], len(fleet.agents)) for stage in stages)
    columns = ("stage", "agents in it", "of")
    return Step("A canary: the share, and how many agents that really is", _ADVANCE, {}, columns, rows)


def _switch_off(fleet: _Fleet) -> Step:
    fleet.operator("policy", "kill", "--reason", "drill of the fleet's loop")
    committed = fleet.committed_at("policy.kill")
    rows = []
    for host, service in fleet.agents.items():
        said = service.wait_for("updated baseline upload flag from policy", _EXCHANGE_SECONDS, enabled=False)
        rows.append((host, round(_time_of(said) - committed, 3)))
    if max(seconds for _, seconds in rows) > _SWITCH_SECONDS:
        raise SimulationError(f"an agent took longer than {_SWITCH_SECONDS:.0f} s to stop", rows=rows)
    columns = ("agent", "seconds from commit to stop")
    return Step("The kill switch", "eguard policy kill", {}, columns, tuple(rows))


def _revoke(fleet: _Fleet) -> Step:
    host = fleet.options.hosts[-1]
    fleet.console("server", "pki", "revoke", host, "--reason", "drill of the fleet's loop")
    said = fleet.agents[host].wait_for("control duty failed", _REVOKE_SECONDS, kind="server_refusal")
    seconds = round(_time_of(said) - fleet.committed_at("certificate.revoke"), 3)
    facts = {"agent": host, "answer": said["reason"], "seconds from commit to refusal": seconds}
    return Step("A revoked certificate is refused", f"eguard server pki revoke {host}", facts)


def _time_of(line: dict[str, Any]) -> float:
    """Return when a line of a log was written."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _verify_audit(fleet: _Fleet) -> Step:
    return Step("The audit log holds", "eguard server audit verify", fleet.console("server", "audit", "verify"))
