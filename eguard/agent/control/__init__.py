"""The agent's side of the control plane: who it is, what it is told, what it reports.

`client` speaks to the server over mutual TLS, `duties` runs what comes round, `exchange` lends the runtime's thread
out. Each of the other modules is one duty; `loop` joins them.
"""
