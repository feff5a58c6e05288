#!/usr/bin/env bash
# Makes tests/data/recordings/loopback.weir: the kernel's own bytes for a few known connections in a namespace of their own.
# Needs root, a BTF kernel and a checkout that is set up. What the traffic is stands in the Python below, and in tests/test_replay.py.
set -euo pipefail
cd "$(dirname "$0")/.."
space=weir-fixture-$$
target=${1:-tests/data/recordings/loopback.weir}
mkdir -p "$(dirname "$target")"
ip netns add "$space"
trap 'ip netns delete "$space"' EXIT
ip -n "$space" link set lo up
ip netns exec "$space" .venv/bin/weir record --output "$target" --duration 4s --set receivers.ebpf.flows.update_interval=1s \
	--set exporters.debug.verbosity=basic >/dev/null &
recorder=$!
sleep 2 # a recording tool, not a test: the traffic starts when capture surely has
ip netns exec "$space" .venv/bin/python - <<'PY'
import errno, socket, time

def exchange(family, address, there, back, mapped=""):
    """One connection: `there` bytes to the server, `back` bytes to the client, which closes first."""
    with socket.create_server((address, 0), family=family, dualstack_ipv6=bool(mapped)) as server:
        client = socket.socket(family)
        client.connect((mapped or address, server.getsockname()[1]))
        accepted, _ = server.accept()
        client.sendall(bytes(there))
        left = there
        while left:
            left -= len(accepted.recv(left))
        accepted.sendall(bytes(back))
        left = back
        while left:
            left -= len(client.recv(left))
        client.close()
        accepted.recv(1)
        accepted.close()

exchange(socket.AF_INET, "127.0.0.1", 1000, 20000)
exchange(socket.AF_INET6, "::1", 300, 7)
exchange(socket.AF_INET6, "::", 55, 66, "::ffff:127.0.0.1")
refused = socket.socket()
assert refused.connect_ex(("127.0.0.1", 9)) == errno.ECONNREFUSED
refused.close()
with socket.create_server(("127.0.0.2", 0)) as server:  # stays open until the recording ends
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    client.sendall(b"x" * 11)
    accepted.recv(11)
    time.sleep(4)
PY
wait "$recorder"
ls -l "$target"
