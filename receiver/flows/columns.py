"""Flow events as columns: what flows hands to enrichment and encoding, one numpy array a field."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

KIND_START, KIND_UPDATE, KIND_END, KIND_SAMPLE = 1, 2, 3, 4
ROLE_UNKNOWN, ROLE_CLIENT, ROLE_SERVER = 0, 1, 2
TCP, UDP = 6, 17

EVENT_NAMES = {KIND_START: "weir.flow.start", KIND_UPDATE: "weir.flow.update", KIND_END: "weir.flow.end"}
ROLES = {ROLE_UNKNOWN: "unknown", ROLE_CLIENT: "client", ROLE_SERVER: "server"}
TRANSPORTS = {TCP: "tcp", UDP: "udp"}
NETWORK_TYPES = {4: "ipv4", 6: "ipv6"}
END_REASONS = {1: "closed", 2: "reset", 3: "failed", 4: "timeout", 5: "aborted", 6: "idle", 7: "shutdown"}
OWNER_RULES = {0: "unknown", 1: "connect", 2: "receive", 3: "send", 4: "close", 5: "listing"}
# Marks of a flow: of UDP, where the first two exclude each other, and the last of TCP.
MULTICAST, BROADCAST, PEER_INFERRED, PACKETS_LEAST, MPTCP = 1, 2, 4, 8, 16
CAUSE_RESET, CAUSE_FAILED, CAUSE_TIMEOUT, CAUSE_SHUTDOWN = 2, 3, 4, 7
# Kernel TCP state -> network.connection.state (RFC 9293 words, semantic conventions v1.44.0).
STATES = {
    1: "established",
    2: "syn_sent",
    3: "syn_received",
    4: "fin_wait_1",
    5: "fin_wait_2",
    6: "time_wait",
    7: "closed",
    8: "close_wait",
    9: "last_ack",
    10: "listen",
    11: "closing",
    12: "syn_received",
}


@dataclass(slots=True)
class EventColumns:
    """n flow events. Times are unix ns, durations seconds with NaN for "not known", sizes bytes."""

    kind: NDArray[np.uint8]  # KIND_START, KIND_UPDATE or KIND_END
    transport: NDArray[np.uint8]  # IP protocol number
    family: NDArray[np.uint8]  # 4 or 6; v4-mapped is 4
    role: NDArray[np.uint8]
    state: NDArray[np.uint8]  # kernel TCP state number; 0 for UDP
    marks: NDArray[np.uint8]  # MULTICAST, BROADCAST, PEER_INFERRED, PACKETS_LEAST, MPTCP, or-ed
    end_cause: NDArray[np.uint8]  # key of END_REASONS; 0 unless KIND_END
    owner_rule: NDArray[np.uint8]  # key of OWNER_RULES
    error: NDArray[np.uint16]  # errno; 0 for none
    time: NDArray[np.uint64]  # when it happened, unix ns
    local_text: NDArray[np.uint32]  # row in the address Texts
    peer_text: NDArray[np.uint32]
    local_port: NDArray[np.uint16]
    peer_port: NDArray[np.uint16]
    asked_text: NDArray[np.uint32]  # row in the address Texts; 0 where the address asked for is the one reached
    asked_port: NDArray[np.uint16]
    server_text: NDArray[np.uint32]  # row in the Texts of names: what the server was asked for by; 0 unknown
    flow_id: NDArray[np.uint8]  # (n, 30) ASCII: Community ID v1
    instance_id: NDArray[np.uint64]
    duration: NDArray[np.float64]
    connect_duration: NDArray[np.float64]
    transmit_bytes: NDArray[np.uint64]
    receive_bytes: NDArray[np.uint64]
    transmit_packets: NDArray[np.uint32]
    receive_packets: NDArray[np.uint32]
    rtt: NDArray[np.float64]
    retransmits: NDArray[np.uint32]
    congestion_window: NDArray[np.uint32]  # segments
    send_window: NDArray[np.uint32]  # bytes that the peer takes; 0: its window is closed
    resource: NDArray[np.uint32]  # index of the encoded Resource
    extra: NDArray[np.uint32]  # row in a Texts of ready-encoded attributes of the record (with tag and length); 0 none

    def __len__(self) -> int:
        """How many events."""
        return len(self.kind)

    def take(self, rows: NDArray[np.intp]) -> "EventColumns":
        """The events at `rows`, in that order."""
        return EventColumns(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})
