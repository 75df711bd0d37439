"""Parsers: files of every supported format become events, a stream at a time."""
