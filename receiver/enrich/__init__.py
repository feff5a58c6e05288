"""Owner keys in, Resources out: who a flow belongs to, told once for each new owner and never for each event."""
