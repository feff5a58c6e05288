"""Records in, flow events and the series table out: vectorised, exact, bounded; no socket, thread, clock or file."""
