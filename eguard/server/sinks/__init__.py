"""Where messages to operators go: a webhook, a syslog receiver."""

from eguard.server.sinks.message import Message, Sink
from eguard.server.sinks.opening import open_sinks
from eguard.server.sinks.syslog import SyslogSink

__all__ = ["Message", "Sink", "SyslogSink", "open_sinks"]
