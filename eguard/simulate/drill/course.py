"""The drill, step by step: quiet cycles, a change of work that is approved, an attack that is undone.

A server of its own as a program, agents with a certificate each over mutual TLS, and the commands that an operator
types. Cycles that a fleet has in weeks follow each other at once; everything else is as in operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from eguard.clock import SystemClock
from eguard.errors import ServerRefusalError, SimulationError
from eguard.fleet.charts import BURN_IN_CYCLES
from eguard.fleet.database import Database
from eguard.server.principal import SYSTEM
from eguard.server.services.enrolment_tokens import EnrolmentTokens
from eguard.settings.server import DATABASE_NAME
from eguard.simulate.drill.behaviour import Behaviours
from eguard.simulate.http_fleet import HttpFleet, ServerAddress
from eguard.simulate.loop.course import Step
from eguard.simulate.programs import Service, run_command

Progress = Callable[[str, int, int], None]

POLICY: Final = "drill"
SITES: Final = 4
_SPARE_CYCLES: Final = 2
_MOST_CYCLES: Final = 15
#: The change of work: a fifth of all events becomes something else.
CHANGED_SHARE: Final = 0.2
#: What part of the way to their target liars go in each cycle, up to the half.
WALK_STEP: Final = 0.1
_HALF: Final = 0.5
_REASON: Final = ("--reason", "drill of the drift runbook")


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What to practise with.

    Parameters
    ----------
    folder : Path
        Where everything is kept; made if missing.
    agents, liars, keys : int
        Agents, those of them that will lie, and process keys.
    seed : int
        Of behaviours and events.
    database_url : str
        The fleet's database; SQLite in the folder if empty.
    """

    folder: Path
    agents: int = 40
    liars: int = 12
    keys: int = 8
    seed: int = 7
    database_url: str = ""


@dataclass(slots=True)
class _Drill:
    """What the steps share."""

    options: DrillOptions
    opened: ExitStack
    progress: Progress | None
    settings: dict[str, str] = field(default_factory=dict)
    api_settings: dict[str, str] = field(default_factory=dict)
    fleet: HttpFleet | None = None
    behaviours: Behaviours | None = None
    named: list[str] = field(default_factory=list)
    good_generation: int = 0

    @property
    def liars(self) -> list[str]:
        """Those that will lie, all enrolled with one token."""
        return [f"agent-{number:02d}" for number in range(self.options.liars)]

    def operator(self, *arguments: str, input_text: str = "") -> Any:
        """Run a command as the operator types it."""
        return run_command([*arguments, "--json"], self.api_settings, input_text)

    def console(self, *arguments: str) -> Any:
        """Run a command on the server's machine."""
        return run_command([*arguments, "--json"], self.settings)

    def cycle(self, lies: dict[str, float] | None = None) -> dict[str, Any]:
        """Upload once from every agent, aggregate, and return the report."""
        assert self.fleet is not None
        assert self.behaviours is not None
        for agent, rows in self.behaviours.cycle(lies or {}).items():
            self.fleet.agents[agent].upload(rows)
        return self.fleet.aggregate()

    def health(self, limit: int = 2) -> dict[str, Any]:
        """Return what `eguard fleet health` shows."""
        assert self.fleet is not None
        return self.fleet.look("/endpoint/fleet/health", limit=limit)

    @staticmethod
    def require(is_so: bool, what: str, **facts: Any) -> None:
        if not is_so:
            raise SimulationError(f"the drill went otherwise: {what}", **facts)


def run_drill(options: DrillOptions, progress: Progress | None = None) -> Iterator[Step]:
    """Run the drill and yield each step when it is done.

    Raises
    ------
    SimulationError
        A step did not come out; the message says which.
    """
    if not 0 < 2 * options.liars < options.agents:
        raise SimulationError("liars are a minority, or no median withstands them: --liars below half of --agents")
    if (options.folder / "server").exists():
        raise SimulationError(
            f"{options.folder} holds an earlier run", remedy="Remove it, or name another folder with --folder."
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        drill = _Drill(options, opened, progress)
        for step in (
            _start,
            _begin_rollout,
            _quiet,
            _change,
            _explain_change,
            _approve,
            _quiet,
            _attack,
            _refuse_to_resume,
            _explain_attack,
            _roll_back,
            _quarantine,
            _approve_without_liars,
            _verify_audit,
        ):
            yield step(drill)


def _start(drill: _Drill) -> Step:
    folder = drill.options.folder
    drill.settings = {
        "EGUARD_SERVER_STATE_PATH": str(folder / "server"),
        "EGUARD_AGENT_LISTEN": "127.0.0.1:0",
        "EGUARD_ADMIN_LISTEN": "127.0.0.1:0",
        "EGUARD_DATABASE_URL": drill.options.database_url,
        "EGUARD_AGGREGATION_MIN_AGENT_AGE_SECONDS": "0",
        # All liars came by one token. With the share at its default they would have one vote in ten and change nothing.
        "EGUARD_AGGREGATION_MAX_TOKEN_SHARE": "1",
    }
    drill.console("server", "pki", "init", "--name", "127.0.0.1", "--name", "localhost")
    server = Service("the server", ["server", "run"], drill.settings, folder / "server.log")
    drill.opened.callback(server.stop)
    said = server.wait_for("server is listening")
    token = folder / "operator.token"
    drill.console("server", "token", "access", "create", "operator", "--role", "admin", "--out", str(token))
    address = ServerAddress(
        agents=f"https://127.0.0.1:{said['agent_port']}",
        administration=f"https://127.0.0.1:{said['admin_port']}",
        authority=folder / "server" / "pki" / "ca.pem",
        token=token.read_text(encoding="utf-8").strip(),
    )
    drill.api_settings = {
        "EGUARD_API": address.administration,
        "EGUARD_API_TOKEN_FILE": str(token),
        "EGUARD_TLS_CA": str(address.authority),
    }
    drill.fleet = drill.opened.enter_context(HttpFleet(address, folder / "agents"))
    tokens = _tokens(drill)
    names = [f"agent-{number:02d}" for number in range(drill.options.agents)]
    for number, name in enumerate(names):
        drill.fleet.enrol(name, tokens[-1] if name in drill.liars else tokens[number % SITES])
    drill.behaviours = Behaviours(names, drill.options.keys, np.random.default_rng(drill.options.seed))
    facts = {"agents": len(names), "enrolment tokens": len(tokens), "process keys": drill.options.keys}
    return Step("A server, and agents that enrol with the tokens of their sites", "eguard server run", facts)


def _tokens(drill: _Drill) -> list[str]:
    """Return one enrolment token a site, and last the one that will fall into wrong hands."""
    url = drill.options.database_url or f"sqlite:///{drill.options.folder / 'server' / DATABASE_NAME}"
    database = Database(url)
    try:
        tokens = EnrolmentTokens(database, SystemClock())
        uses = drill.options.agents
        return [tokens.create(SYSTEM, max_uses=uses, note=f"site {site + 1}").secret for site in range(SITES + 1)]
    finally:
        database.dispose()


def _begin_rollout(drill: _Drill) -> Step:
    shares = {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}
    posted = {"policy_id": POLICY, "policy_version": "v1", "policy_json": shares}
    drill.operator("policy", "create", "-", input_text=json.dumps(posted))
    stage = drill.operator("policy", "advance", POLICY, "--to", "1", "--force", *_REASON)
    return Step(
        "A rollout under way: what an alarm has to hold",
        f"eguard policy advance {POLICY}",
        {"policy": POLICY, "stage": f"{stage['stage_percent']} %"},
    )


def _quiet(drill: _Drill) -> Step:
    cycles = BURN_IN_CYCLES + _SPARE_CYCLES
    for number in range(cycles):
        report = drill.cycle()
        if drill.progress is not None:
            drill.progress(f"quiet cycles up to generation {report['generation']}", number + 1, cycles)
    found = drill.health()
    drill.require(not found["drift"]["open_alarms"], "an alarm in quiet cycles", drift=found["drift"])
    drill.good_generation = found["generation"]
    chart = found["drift"]["charts"]["reference"]
    facts = {
        "generation": found["generation"],
        "reference": found["reference_generation"],
        "cycles learned": chart["cycles"],
        "CUSUM": f"{chart['cusum']:.2f} of {chart['cusum_threshold']:g}",
        "alarms": 0,
    }
    return Step("Quiet cycles: the detectors learn what is ordinary", "eguard fleet health", facts)


def _until_alarm(drill: _Drill, title: str, lies: Callable[[int], dict[str, float]]) -> Step:
    rows = []
    for number in range(1, _MOST_CYCLES + 1):
        walked = lies(number)
        report = drill.cycle(walked)
        found = drill.health()
        js = {row["compared_with"]: row["js_mean"] for row in found["comparisons"]}
        alarms = [f"{alarm['series']}: {alarm['kind']}" for alarm in found["drift"]["open_alarms"]]
        way = f"{max(walked.values()):.0%}" if walked else "-"
        cusum = f"{found['drift']['charts']['reference']['cusum']:.1f}"
        rows.append(
            (report["generation"], way, f"{js['previous']:.5f}", f"{js['reference']:.5f}", cusum, ", ".join(alarms))
        )
        if alarms:
            columns = ("generation", "walked", "JS to previous", "JS to reference", "CUSUM", "alarms")
            facts = {"cycles until the alarm": number, **_frozen(drill)}
            return Step(title, "eguard fleet health", facts, columns, tuple(rows))
    raise SimulationError(f"no alarm in {_MOST_CYCLES} cycles", rows=rows)


def _frozen(drill: _Drill) -> dict[str, Any]:
    (rollout,) = drill.operator("policy", "status", POLICY)["rollouts"]
    drill.require(rollout["is_frozen"], "the alarm has not frozen the rollout")
    return {"rollout": f"frozen by {rollout['frozen_by']}: {rollout['frozen_reason']}"}


def _change(drill: _Drill) -> Step:
    assert drill.behaviours is not None
    drill.behaviours.change(CHANGED_SHARE)
    return _until_alarm(drill, "Organic: new software, everybody does something else", lambda _: {})


def _attack(drill: _Drill) -> Step:
    def lies(number: int) -> dict[str, float]:
        return dict.fromkeys(drill.liars, min(_HALF, WALK_STEP * number))

    return _until_alarm(drill, f"Adversarial: {drill.options.liars} of {drill.options.agents} agents lie", lies)


def _explained(drill: _Drill) -> tuple[dict[str, Any], dict[str, Any], tuple[tuple[Any, ...], ...]]:
    found = drill.operator("fleet", "explain")
    influence, points = found["influence"], found["evidence_points"]
    facts = {
        "keys that moved": f"{found['moved_keys']} of {found['common_keys']}",
        "smallest set that explains it": f"{influence['smallest_set']} of {influence['voters']} agents",
        "largest influence of one agent": f"{max(agent['undone_alone'] for agent in found['agents']):.1%}",
        "points": f"{points['organic']} organic, {points['adversarial']} adversarial",
    }
    rows = tuple((line["name"], line["measured"], line["points"]) for line in found["evidence"])
    return found, facts, rows


_EVIDENCE: Final = ("evidence", "measured", "points")


def _explain_change(drill: _Drill) -> Step:
    found, facts, rows = _explained(drill)
    points = found["evidence_points"]
    drill.require(points["organic"] > points["adversarial"] == 0, "the evidence is not organic", points=points)
    return Step("What moved it", "eguard fleet explain", facts, _EVIDENCE, rows)


def _explain_attack(drill: _Drill) -> Step:
    found, facts, rows = _explained(drill)
    points = found["evidence_points"]
    drill.require(points["adversarial"] > points["organic"] == 0, "the evidence is not adversarial", points=points)
    drill.named = found["group"]
    right = len(set(drill.named) & set(drill.liars))
    precision, recall = right / max(len(drill.named), 1), right / len(drill.liars)
    drill.require(precision == recall == 1.0, "the named agents are not the liars", precision=precision, recall=recall)
    facts |= {"named": ", ".join(drill.named), "precision": precision, "recall": recall}
    return Step("Who moved it", "eguard fleet explain", facts, _EVIDENCE, rows)


def _approve(drill: _Drill) -> Step:
    done = drill.operator("fleet", "approve", *_REASON)
    resumed = drill.operator("fleet", "resume", *_REASON)
    facts = {
        "reference": done["reference_generation"],
        "alarms resolved as organic": len(done["resolved_alarms"]),
        "resumed": ", ".join(resumed["resumed"]),
    }
    return Step("Approve the change, and go on", "eguard fleet approve; eguard fleet resume", facts)


def _refuse_to_resume(drill: _Drill) -> Step:
    assert drill.fleet is not None
    try:
        drill.fleet.operator("/endpoint/fleet/resume", reason="impatience")
    except ServerRefusalError as error:
        return Step("Going on is refused meanwhile", "eguard fleet resume", {error.reason: error.message})
    raise SimulationError("the drill went otherwise: a frozen rollout went on with an alarm open")


def _roll_back(drill: _Drill) -> Step:
    done = drill.operator("fleet", "rollback", str(drill.good_generation), *_REASON)
    facts = {
        "generation": done["generation"],
        "with the rows of": done["rolled_back_to"],
        "alarms resolved as adversarial": len(done["resolved_alarms"]),
    }
    return Step("Go back to the last good generation", f"eguard fleet rollback {drill.good_generation}", facts)


def _quarantine(drill: _Drill) -> Step:
    done = drill.operator("fleet", "quarantine", *drill.named, *_REASON)
    report = drill.cycle(dict.fromkeys(drill.liars, _HALF))
    js = {row["compared_with"]: row["js_mean"] for row in drill.health()["comparisons"]}
    facts = {
        "quarantined": len(done["quarantined"]),
        "agents that vote now": report["agents"],
        "JS to the reference": f"{js['reference']:.5f}",
    }
    return Step("Take the liars' votes", "eguard fleet quarantine AGENT...", facts)


def _approve_without_liars(drill: _Drill) -> Step:
    done = drill.operator("fleet", "approve", *_REASON)
    resumed = drill.operator("fleet", "resume", *_REASON)
    alarms = [drill.cycle(dict.fromkeys(drill.liars, _HALF)) and drill.health()["drift"]["open_alarms"] for _ in "1234"]
    drill.require(not any(alarms), "an alarm after the liars were gone", alarms=alarms)
    facts = {
        "reference": done["reference_generation"],
        "resumed": ", ".join(resumed["resumed"]),
        "cycles since, the liars going on": len(alarms),
        "alarms in them": 0,
    }
    return Step("Pin what the others agree on, and go on", "eguard fleet approve; eguard fleet resume", facts)


def _verify_audit(drill: _Drill) -> Step:
    records = drill.console("server", "audit", "list", "--limit", "200")["records"]
    shown = [record for record in reversed(records) if record["action"] in _SHOWN_ACTIONS]
    rows = tuple((record["sequence"], record["principal"], record["action"]) for record in shown)
    verified = drill.console("server", "audit", "verify")
    return Step(
        "Every step is on record", "eguard server audit verify", verified, ("record", "by", "action"), rows
    )  # fmt: skip


_SHOWN_ACTIONS: Final = frozenset(
    {
        "fleet.drift_alarm",
        "fleet.approve",
        "fleet.rollback",
        "rollout.resume",
        "policy.advance",
    }
)
