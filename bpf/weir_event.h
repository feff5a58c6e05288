/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel side hands to user space. This is the only definition of the layout: the numpy dtypes are
 * generated from the BTF that these structs leave in the object. Every byte is named; nothing is padded implicitly.
 */
#ifndef WEIR_EVENT_H
#define WEIR_EVENT_H

#define WEIR_LAYOUT_VERSION 2

enum weir_kind {
	WEIR_START = 1,
	WEIR_UPDATE = 2,
	WEIR_END = 3,
	WEIR_SAMPLE = 4, /* an open socket, for the metrics; no event */
};

enum weir_role { WEIR_ROLE_UNKNOWN = 0, WEIR_ROLE_CLIENT = 1, WEIR_ROLE_SERVER = 2 };

enum weir_end_cause {
	WEIR_CAUSE_NONE = 0,
	WEIR_CAUSE_CLOSED = 1,
	WEIR_CAUSE_RESET = 2,
	WEIR_CAUSE_FAILED = 3,
	WEIR_CAUSE_TIMEOUT = 4,
	WEIR_CAUSE_ABORTED = 5,
	WEIR_CAUSE_IDLE = 6,
	WEIR_CAUSE_SHUTDOWN = 7,
};

enum weir_owner_rule {
	WEIR_OWNER_UNKNOWN = 0,
	WEIR_OWNER_CONNECT = 1,
	WEIR_OWNER_RECEIVE = 2,
	WEIR_OWNER_SEND = 3,
	WEIR_OWNER_CLOSE = 4,
	WEIR_OWNER_LISTING = 5,
};

enum weir_flag {
	WEIR_ESTABLISHED = 1, /* the handshake was completed */
	WEIR_START_SEEN = 2,  /* the socket is younger than Weir */
	WEIR_COUNTED = 4,     /* an earlier sample has counted this connection */
	WEIR_SELF = 8,	      /* Weir's own connection */
	WEIR_STARTED = 16,    /* its start event has been emitted */
	WEIR_CLOSED_BEFORE = 32, /* an earlier pass found its socket closed */
	WEIR_PEER_INFERRED = 64, /* UDP: some datagrams are taken to be from the last peer that the socket sent to */
	WEIR_MPTCP = 64,	   /* TCP: a subflow of an MPTCP connection */
	WEIR_PACKETS_LEAST = 128, /* UDP: several datagrams may have been received by one call and are counted once */
};

/* One flow event. Times are boot-clock nanoseconds, ports in host order, IPv4 addresses as ::ffff:a.b.c.d. */
struct weir_event {
	__u8 version;
	__u8 kind;
	__u8 family; /* 4 or 6 */
	__u8 transport;
	__u8 role;
	__u8 old_state;
	__u8 state;
	__u8 end_cause;
	__u8 owner_rule;
	__u8 flags;
	__u16 error;
	__u16 local_port;
	__u16 peer_port;
	__u64 instance_id;
	__u8 local_address[16];
	__u8 peer_address[16];
	__u64 start_time; /* 0: older than Weir */
	__u64 time;
	__u64 connect_duration; /* ns; 0: not measured */
	__u64 transmit_bytes;
	__u64 receive_bytes;
	__u32 transmit_packets;
	__u32 receive_packets;
	__u32 rtt; /* us */
	__u32 retransmits;
	__u64 owner_start;
	__u32 owner_pid; /* as in weir_owner_key; 0: unknown */
	__u32 netns;
	__u64 cgroup_id;
	__u8 asked_address[16]; /* what connect(2) asked for; after netfilter's DNAT, what was reached */
	__u16 asked_port;	/* 0: not known to differ from the peer */
	__u16 syn_retransmits; /* of the handshake; `retransmits` has them too */
	__u32 counted_retransmits; /* what earlier samples have already counted */
	__u64 counted_transmit;
	__u64 counted_receive;
	__u8 comm[16];
	__u32 congestion_window; /* segments, at this moment */
	__u32 send_window;	 /* bytes that the peer still takes, at this moment; 0: it is full */
};
_Static_assert(sizeof(struct weir_event) == 200, "weir_event has no implicit padding");

/*
 * Who owns a socket: one entry for each program of a process, written when it is first seen to use a socket in scope.
 * A process that runs another program (exec) keeps its pid and its start, so the kernel's count of that is in the key.
 */
#define WEIR_PID_BITS 22 /* PID_MAX_LIMIT */
struct weir_owner_key {
	__u64 start; /* boot-clock ns */
	__u32 pid; /* as the initial pid namespace sees it; above WEIR_PID_BITS the lower bits of the count */
	__u32 reserved;
};
_Static_assert(sizeof(struct weir_owner_key) == 16, "weir_owner_key has no implicit padding");

#define WEIR_NAME 64
#define WEIR_CGROUP_NAME 96

struct weir_owner {
	__u64 cgroup_id;
	__u32 uid;
	__u32 vpid;  /* the pid in its own pid namespace */
	__u32 pidns; /* that namespace's inode */
	__u32 reserved;
	__u8 comm[16];
	__u8 executable[WEIR_NAME];
	__u8 cgroup_name[WEIR_CGROUP_NAME];
	__u8 cgroup_parent[WEIR_CGROUP_NAME];
};
_Static_assert(sizeof(struct weir_owner) == 296, "weir_owner has no implicit padding");

/* Counters that user space maps and reads without a system call. */
struct weir_counters {
	__u64 begun;	    /* records tried; read with `done`: equal means that none is being emitted */
	__u64 done;
	__u64 ring_full;    /* records lost because the ring had no room */
	__u64 filtered_self;
	__u64 flows_full;   /* sockets that found no room in the flow table: reported, but without start, role and owner */
	__u64 owners_failed; /* owner entries that could not be written */
	__u64 replaced;	    /* flows whose end was not seen before their socket was used again */
	__u64 udp_full;	    /* datagrams that found no room for their flow: counted in the rest of their socket */
	__u64 udp_missed;   /* datagrams that are in no flow */
};
_Static_assert(sizeof(struct weir_counters) == 72, "weir_counters has no implicit padding");

#endif
