"""Answers that are believed for a moment, and never a bad one."""

from eguard.clock import SimulatedClock
from eguard.server.services.believed import BELIEVED_SECONDS, Believed


def test_an_answer_is_believed_from_when_it_was_asked_for():
    clock = SimulatedClock(0.0)
    believed = Believed(clock)
    asked_at = believed.now()
    clock.advance_to(3.0)  # the database took its time
    believed.keep("a", "yes", asked_at)
    clock.advance_to(BELIEVED_SECONDS - 0.1)
    assert believed.get("a") == "yes"
    clock.advance_to(BELIEVED_SECONDS)
    assert believed.get("a") is None


def test_no_answer_ends_an_earlier_one():
    believed = Believed(SimulatedClock(0.0))
    believed.keep("a", "yes", 0.0)
    believed.keep("b", "yes", 0.0)
    believed.keep("a", None, 0.0)
    assert (believed.get("a"), believed.get("b")) == (None, "yes")
    believed.forget()
    assert believed.get("b") is None
