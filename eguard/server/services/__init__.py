"""One class a noun: what the server does, one transaction a method."""
