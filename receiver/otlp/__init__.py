"""Columns in, OTLP request bytes out: pure functions; no socket, thread, clock or file."""
