"""The course of a load test: agents start, stay, perhaps lose their connections, perhaps are switched off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from eguard.simulate.load.agents import SimulatedAgent, Surroundings
from eguard.simulate.load.gauge import Gauge, OwnGauge
from eguard.simulate.load.measures import Second
from eguard.simulate.load.place import Place
from eguard.simulate.load.schedule import make_schedule
from eguard.simulate.load.switch import connected_probe, flip

#: How long after its last beginning a phase may take to bring everybody through.
_LAST_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.1
_TICK_SECONDS: Final = 1.0

Watch = Callable[[Second], object]


class Course:
    """One run on a server that answers.

    Parameters
    ----------
    around : Surroundings
        What the agents share.
    place : Place
        The server.
    watch : callable, optional
        Told every second how it goes.

    Attributes
    ----------
    report : dict
        What no counter says: how each phase went.
    """

    def __init__(self, around: Surroundings, place: Place, watch: Watch | None = None) -> None:
        self._around = around
        self._options = around.options
        self._measures = around.measures
        self._place = place
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._agents: dict[int, SimulatedAgent] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._visiting: dict[int, asyncio.Task[None]] = {}
        self._gauge = Gauge(place.process_id) if place.process_id else None
        self._schedule = make_schedule(self._options)
        self._own = OwnGauge()
        self.report: dict[str, Any] = {}

    async def run(self) -> None:
        """Do everything that the options ask for."""
        ticking = asyncio.create_task(self._tick())
        try:
            if self._options.is_polling:
                await self._start()
                await self._hold()
                if self._options.herd_seconds:
                    await self._herd()
            else:
                await self._visits()
        finally:
            ticking.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with suppress(asyncio.CancelledError):
                await ticking
        self.report["generator"] = self._own.report()
        self.report["seconds"] = round(self._loop.time() - self._began, 3)
        if self._gauge is not None:
            self._gauge.memory_mib()
            self.report["server"] = {
                "peak_mib": round(self._gauge.peak_mib, 1),
                "cpu_seconds": round(self._gauge.cpu_seconds(), 2),
            }

    async def _start(self) -> None:
        began = self._loop.time()
        for due in self._schedule.starts:
            await self._sleep_until(began + due.at_seconds)
            self._spawn(self._agent(due.number).live())
        self.report["start"] = await self._all_served(began)

    async def _hold(self) -> None:
        options = self._options
        self._measures.phase = "hold"
        duties: list[Awaitable[Any]] = [asyncio.sleep(options.hold_seconds), self._leave_and_return()]
        if options.kill_switch and not options.herd_seconds:
            duties.append(self._flip(options.hold_seconds / 2.0))
        await asyncio.gather(*duties)

    async def _herd(self) -> None:
        """Drop every connection at once, and have everybody come back within a short time."""
        self._measures.phase = "herd"
        probe = await connected_probe(self._around) if self._options.kill_switch else None
        began = self._loop.time()
        for number, agent in self._agents.items():
            agent.owes_upload = True
            agent.cut(began + float(self._schedule.returns_seconds[number]), is_abrupt=True)
        duties: list[Awaitable[Any]] = [self._all_served(began)]
        if probe is not None:
            duties.append(self._flip(self._options.herd_seconds / 2.0, probe))
        found = await asyncio.gather(*duties)
        self.report["herd"] = found[0]

    async def _visits(self) -> None:
        self._measures.phase = "hold"
        began = self._loop.time()
        flipping: asyncio.Task[Any] | None = None
        if self._options.kill_switch:
            flipping = asyncio.create_task(self._flip(self._options.hold_seconds / 2.0))
        for due in self._schedule.visits:
            await self._sleep_until(began + due.at_seconds)
            self._spawn(self._visit(due.number, began + due.at_seconds))
        await self._sleep_until(began + self._options.hold_seconds)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)
        if flipping is not None:
            await flipping
        self.report["visits"] = {"due": len(self._schedule.visits), "unfinished": len(self._tasks)}

    async def _visit(self, number: int, due_at: float) -> None:
        """Visit; an agent whose last visit still goes on ends that first, and is late then."""
        last, current = self._visiting.get(number), asyncio.current_task()
        if current is not None:
            self._visiting[number] = current
        if last is not None:
            await asyncio.wait([last])
        await self._agent(number).visit(due_at)
        if self._visiting.get(number) is current:
            del self._visiting[number]

    async def _leave_and_return(self) -> None:
        began = self._loop.time()
        for absence in self._schedule.absences:
            await self._sleep_until(began + absence.at_seconds)
            agent = self._agents[absence.number]
            if absence.is_reborn:
                agent.forget_state()
            agent.cut(self._loop.time() + absence.seconds, is_abrupt=False)
        self.report["absences"] = len(self._schedule.absences)

    async def _flip(self, after_seconds: float, probe: SimulatedAgent | None = None) -> dict[str, Any]:
        probe = probe or await connected_probe(self._around)
        await asyncio.sleep(after_seconds)
        found = await flip(self._around, self._place, list(self._agents.values()), probe)
        self.report["kill_switch"] = found
        return found

    async def _all_served(self, began: float) -> dict[str, Any]:
        """Wait until everybody has what it came for, and say how long it took."""
        until = self._loop.time() + _LAST_SECONDS
        # Ten thousand agents that each set an event would be the dearer way.
        while self._loop.time() < until and self._missing():  # noqa: ASYNC110 - as said
            await asyncio.sleep(_LOOK_SECONDS)
        served = sorted(agent.served_at for agent in self._agents.values() if agent.served_at is not None)
        arrived = [agent.arrived_at for agent in self._agents.values() if agent.arrived_at is not None]
        return {
            "agents": len(self._agents),
            "arrived_seconds": round(max(arrived) - began, 3) if arrived else None,
            "served": len(served),
            "half_seconds": round(served[len(served) // 2] - began, 3) if served else None,
            "last_seconds": round(served[-1] - began, 3) if served else None,
        }

    def _missing(self) -> bool:
        return any(agent.served_at is None for agent in self._agents.values())

    def _agent(self, number: int) -> SimulatedAgent:
        found = self._agents.get(number)
        if found is None:
            found = self._agents[number] = SimulatedAgent(self._around, number)
        return found

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sleep_until(self, at: float) -> None:
        left = at - self._loop.time()
        if left > 0.0:
            await asyncio.sleep(left)

    async def _tick(self) -> None:
        at = self._loop.time()
        while True:
            at = max(at + _TICK_SECONDS, self._loop.time())
            await self._sleep_until(at)
            self._own.look()
            mib = None
            if self._gauge is not None:
                mib = round(await asyncio.to_thread(self._gauge.memory_mib), 1)
            second = self._measures.tick(self._loop.time() - self._began, mib)
            if self._watch is not None:
                self._watch(second)
