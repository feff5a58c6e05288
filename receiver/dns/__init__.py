"""Captured DNS messages in, lookups and the names of addresses out: bounded tables; no socket, thread, clock or file."""
