"""The lighter parts do what uvicorn's do."""

import asyncio

from eguard.server.flow import Flow, Pipeline, Signal


class Reading:
    def __init__(self):
        self.said = []

    def pause_reading(self):
        self.said.append("pause")

    def resume_reading(self):
        self.said.append("resume")


def test_a_signal_lets_all_go_on_who_wait_and_whoever_comes_while_it_is_set():
    async def main():
        signal = Signal()
        waiting = [asyncio.create_task(signal.wait()) for _ in range(2)]
        gone = asyncio.create_task(signal.wait())
        await asyncio.sleep(0)
        gone.cancel()
        assert not any(task.done() for task in waiting)
        signal.set()
        await asyncio.wait_for(asyncio.gather(*waiting, signal.wait()), 1)
        signal.clear()
        assert not signal.is_set()
        later = asyncio.create_task(signal.wait())
        await asyncio.sleep(0)
        assert not later.done()
        signal.set()
        await asyncio.wait_for(later, 1)

    asyncio.run(main())


def test_a_writer_waits_while_the_client_does_not_read():
    async def main():
        flow = Flow(Reading())
        await asyncio.wait_for(flow.drain(), 1)
        flow.pause_writing()
        writing = asyncio.create_task(flow.drain())
        await asyncio.sleep(0)
        assert not writing.done()
        flow.resume_writing()
        await asyncio.wait_for(writing, 1)
        flow.pause_reading()
        flow.resume_reading()
        return flow._transport.said

    assert asyncio.run(main()) == ["pause", "resume"]


def test_requests_that_were_sent_ahead_come_out_in_their_order():
    pipeline = Pipeline()
    for number in range(3):
        pipeline.appendleft(number)
    assert [pipeline.pop() for _ in range(3)] == [0, 1, 2]
