"""Isolate this host, let it go, restore, and say how it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from eguard.agent.isolation.composition import compose, plan_of
from eguard.agent.isolation.inspection import Inspection, inspect
from eguard.agent.isolation.kernel import KernelTable, PacketFilter
from eguard.agent.isolation.request import IsolationRequest, RequestFile
from eguard.agent.isolation.resolvers import ResolverConfiguration, parse_resolver, read_resolvers
from eguard.agent.isolation.ruleset import Plan, elements_digest, question_tag, render, render_removal, render_sets
from eguard.agent.isolation.targets import Lookup, Server, parse_server
from eguard.clock import Clock, SystemClock
from eguard.errors import ConfigError, IsolationError, IsolationUnavailableError

Action = Literal["isolated", "addresses_updated", "unchanged", "allowed", "nothing_to_do"]
_log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What a command did, and how the host stands after it.

    Parameters
    ----------
    action : str
        ``isolated``: rules were loaded; ``addresses_updated``: only the addresses changed; ``unchanged``: all
        was so already; ``allowed``: rules or request were removed; ``nothing_to_do``: there were none.
    inspection : Inspection
        The kernel's state afterwards.
    warnings : tuple of str
        What the operator should know.
    """

    action: Action
    inspection: Inspection
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """How the host stands: the kernel's word, and what was asked for beside it.

    Parameters
    ----------
    inspection : Inspection
        What the kernel holds.
    request : IsolationRequest or None
        What the request file asks for; None if there is none or it is not to be trusted.
    disagreements : tuple of str
        Where kernel and request differ, and what is wrong with the request file.
    """

    inspection: Inspection
    request: IsolationRequest | None
    disagreements: tuple[str, ...]


class HostIsolation:
    """The isolation of one host (one network namespace).

    Parameters
    ----------
    packet_filter : PacketFilter
        nftables, or what stands in for it.
    request_file : RequestFile
        Where the request is kept.
    clock : Clock, optional
    lookup : callable, optional
        Returns addresses for a name, the system's resolver by default.
    configuration : callable, optional
        Returns this host's resolvers, resolv.conf by default.
    """

    def __init__(
        self,
        packet_filter: PacketFilter,
        request_file: RequestFile,
        *,
        clock: Clock | None = None,
        lookup: Lookup | None = None,
        configuration: Callable[[], ResolverConfiguration] = read_resolvers,
    ) -> None:
        self._filter = packet_filter
        self._file = request_file
        self._clock = clock or SystemClock()
        self._lookup = lookup
        self._configuration = configuration

    def plan(self, servers: Sequence[str], resolvers: Sequence[str] = (), *, by: str = "") -> str:
        """Return the script that `isolate` would load on a host that is not isolated; touch nothing."""
        request, _ = self._compose([parse_server(text) for text in servers], resolvers, by, None)
        return render(plan_of(request, request.requested_at_unix, by))

    def isolate(self, servers: Sequence[str] = (), resolvers: Sequence[str] = (), *, by: str = "") -> Outcome:
        """Cut the host off from everything but its servers; twice is like once.

        Names are looked up at each call. A name that no longer resolves keeps the addresses that it had.

        Parameters
        ----------
        servers : sequence of str
            ``HOST:PORT``; none means those of the request that stands.
        resolvers : sequence of str
            Addresses of DNS resolvers; none means those that this host is configured with.
        by : str
            Who asks.

        Raises
        ------
        ConfigError
            A server or resolver is malformed, or none is given and none is known.
        IsolationError
            A name does not resolve, or the rules did not come out as written.
        IsolationUnavailableError
            nft, privileges or nf_tables are missing; nothing was changed.
        """
        asked = [parse_server(text) for text in servers]
        given = [str(parse_resolver(text)) for text in resolvers]
        with self._file.locked():
            previous, damage = self._previous()
            if not asked and previous is None:
                raise ConfigError(
                    damage or "no server is given, and no earlier request names one",
                    remedy="Name the server that stays reachable: eguard nac isolate --server HOST:PORT",
                )
            table = self._filter.read()
            standing = inspect(table)
            request, warnings = self._compose(asked, given, by, previous)
            if previous is not None and standing.state == "isolated":
                begun = {"requested_at_unix": previous.requested_at_unix, "requested_by": previous.requested_by}
                request = msgspec.structs.replace(request, **begun)
            action = self._enforce(request, table, standing, previous)
            if damage:
                warnings.append(f"{damage}; it was replaced")
            return self._verified(action, tuple(warnings))

    def restore(self) -> Outcome:
        """Bring the requested isolation back, from addresses on file: no name is looked up, no network is needed.

        Raises
        ------
        IsolationError
            The request file is damaged or not to be trusted, or the rules did not come out as written.
        IsolationUnavailableError
            nft, privileges or nf_tables are missing.
        """
        with self._file.locked():
            request = self._file.read()
            table = self._filter.read()
            if request is None:
                return Outcome("nothing_to_do", inspect(table))
            action = self._enforce(request, table, inspect(table), request)
            return self._verified(action, ())

    def allow(self, *, by: str = "") -> Outcome:
        """Lift the isolation: remove our table and the request, and nothing else.

        The table goes first: should the machine stop between the two, the isolation comes back and the unanswered
        command is repeated.

        Raises
        ------
        IsolationUnavailableError
            nft, privileges or nf_tables are missing; nothing was changed.
        """
        with self._file.locked():
            had_table = self._filter.read() is not None
            if had_table:
                self._filter.load(render_removal())
            had_request = self._file.remove()
            if had_table or had_request:
                _log.info("network isolation lifted", requested_by=by)
                return Outcome("allowed", inspect(self._filter.read()))
            return Outcome("nothing_to_do", inspect(None))

    def status(self) -> Standing:
        """Return how the host stands, by the kernel's word.

        Raises
        ------
        IsolationUnavailableError
            nft, privileges or nf_tables are missing.
        """
        inspection = inspect(self._filter.read())
        request, damage = self._previous()
        disagreements = [damage] if damage else []
        if request is None and not damage and inspection.state != "not_isolated":
            disagreements.append("isolated without a request on file: a restart would lift it")
        if request is not None and inspection.state == "not_isolated":
            disagreements.append("isolation was requested, but the kernel holds no rules: run eguard nac restore")
        if request is not None and inspection.state != "not_isolated":
            plan = plan_of(request, 0, "")
            if not _same_filter(plan, inspection):
                disagreements.append("the kernel lets other addresses or names through than requested")
        return Standing(inspection, request, tuple(disagreements))

    def _previous(self) -> tuple[IsolationRequest | None, str]:
        """Return the request on file and, if it cannot be used, why."""
        try:
            return self._file.read(), ""
        except IsolationError as error:
            return None, error.message

    def _compose(
        self, asked: Sequence[Server], given: Sequence[str], by: str, previous: IsolationRequest | None
    ) -> tuple[IsolationRequest, list[str]]:
        now = int(self._clock.now())
        return compose(asked, given, by, now, previous, lookup=self._lookup, configuration=self._configuration)

    def _enforce(
        self,
        request: IsolationRequest,
        table: KernelTable | None,
        standing: Inspection,
        previous: IsolationRequest | None,
    ) -> Action:
        """Make file and kernel say the same; the file first, and back again if the kernel refuses."""
        whole = standing.state == "isolated" and standing.since_unix is not None
        since = standing.since_unix if whole and standing.since_unix is not None else int(self._clock.now())
        by = standing.requested_by if whole else request.requested_by
        plan = plan_of(request, since, by)
        action, script = _script(plan, table, standing)
        if script:
            self._filter.check(script)
        if request != previous:
            self._file.write(request)
        try:
            if script:
                self._filter.load(script)
        except IsolationUnavailableError:
            if previous is None:
                self._file.remove()
            elif request != previous:
                self._file.write(previous)
            raise
        if script:
            servers = [pinned.server for pinned in request.servers]
            _log.info("network isolated", action=action, servers=servers, requested_by=by)
        return action

    def _verified(self, action: Action, warnings: tuple[str, ...]) -> Outcome:
        """Read back what the kernel holds."""
        inspection = inspect(self._filter.read())
        if inspection.state != "isolated":
            raise IsolationError(
                f"the rules were loaded, but the kernel says {inspection.state}: {'; '.join(inspection.defects)}",
                remedy="Something else changes the rules; stop it and isolate again.",
            )
        return Outcome(action, inspection, warnings)


def _script(plan: Plan, table: KernelTable | None, standing: Inspection) -> tuple[Action, str]:
    """Return the least that brings the kernel to the plan: nothing, the sets, or the whole table."""
    if table is None or standing.state != "isolated" or not _same_questions(plan, standing):
        return "isolated", render(plan, table.counters if table else None)
    if elements_digest(plan.elements()) == elements_digest(table.sets):
        return "unchanged", ""
    return "addresses_updated", render_sets(plan)


def _same_questions(plan: Plan, standing: Inspection) -> bool:
    return [f"question {name}" for name in standing.questions] == [question_tag(name) for name in plan.questions]


def _same_filter(plan: Plan, standing: Inspection) -> bool:
    servers = {
        f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}" for address, port in plan.endpoints
    }
    resolvers = {str(address) for address in plan.resolvers}
    return _same_questions(plan, standing) and servers == set(standing.servers) and resolvers == set(standing.resolvers)
