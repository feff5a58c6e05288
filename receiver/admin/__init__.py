"""What an operator asks a running Weir over HTTP: whether it lives, and what its ledger says. Loopback by default."""
