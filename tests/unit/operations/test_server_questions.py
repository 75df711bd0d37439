"""A question is asked once, and none after a server that does not answer."""

import pytest

from eguard.errors import ServerRefusalError, ServerUnavailableError
from eguard.operations.server_questions import ServerQuestions


@pytest.fixture
def questions(settings, authority, monkeypatch):
    """Return questions to nobody, and what was sent; `answers` says what comes back, or is raised."""
    certificate, key = authority.issue("agent-7")
    here = settings(server="https://localhost:1", tls_cert=certificate, tls_key=key, tls_ca=authority.file)
    sent, answers = [], {}

    def send(_client, request):
        sent.append((request.path, dict(request.query)))
        answer = answers[request.path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("eguard.operations.server_questions.ControlClient.send", send)
    return ServerQuestions(here), answers, sent


def test_an_answer_is_kept(questions):
    asked, answers, sent = questions
    answers["/a"] = "yes"
    assert [asked.ask("/a", {"limit": 1}), asked.ask("/a", {"limit": 1})] == ["yes", "yes"]
    assert sent == [("/a", {"limit": 1})]


def test_after_trouble_nobody_is_asked_again(questions):
    asked, answers, sent = questions
    answers["/a"] = ServerUnavailableError("gone", reason="connect")
    for path in ("/a", "/b"):
        with pytest.raises(ServerUnavailableError, match="gone"):
            asked.ask(path)
    assert sent == [("/a", {})]


def test_after_a_refusal_other_questions_are_asked(questions):
    asked, answers, sent = questions
    answers |= {"/a": ServerRefusalError(403, "forbidden", "no"), "/b": "yes"}
    with pytest.raises(ServerRefusalError):
        asked.ask("/a")
    assert asked.ask("/b") == "yes"
    assert len(sent) == 2
