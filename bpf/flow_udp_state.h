/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is known of UDP: flows by (socket, peer), calls under way, and which sockets are older than Weir. */
#ifndef WEIR_FLOW_UDP_STATE_H
#define WEIR_FLOW_UDP_STATE_H

#include "flow_state.h"

struct udp_key {
	__u64 cookie; /* the socket's */
	__u8 peer_address[16];
	__u16 peer_port;
	__u16 reserved[3];
};

/* The near end, as the socket has it bound. */
struct udp_end {
	__u8 local_address[16];
	__u16 local_port;
	__u8 family; /* of the socket: AF_INET or AF_INET6 */
	__u8 reserved;
	__u32 netns;
};

struct bpf_spin_lock {
	__u32 val;
};

/*
 * One flow. What moves is written under the lock, so that the report which ends a flow has every datagram that was added
 * to it: once `ended` is set nobody adds any more, and whoever set it reports.
 */
struct udp_flow {
	struct udp_key key; /* an element's memory may be used again for another key while a datagram is on its way to it */
	struct udp_end end;
	struct flow flow;
	__u64 last_seen;
	__u64 transmit_bytes;
	__u64 receive_bytes;
	__u64 transmit_packets;
	__u64 receive_packets;
	struct bpf_spin_lock lock;
	__u32 ended;
};

/* A datagram that was received and whose peer is known when the system call ends. */
struct udp_pending {
	__u64 cookie;
	__u64 name; /* in user memory */
	__u64 since; /* udp_exits_since when it came */
	struct udp_end end;
	__u32 bytes;
	__u8 young;
	__u8 coalesced;
	__u8 guessed; /* `guess` is the last peer that this socket sent to */
	__u8 reserved;
	struct udp_key guess;
};

/* Where a thread stands in a call for several messages. */
struct udp_call {
	__u64 send_vector;
	__u64 receive_since; /* receive_index is right if this equals udp_exits_since */
	__u32 send_index;
	__u32 receive_index;
};

/* Memory is taken as flows come, not at start. */
#define BPF_F_NO_PREALLOC 1

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct udp_key);
	__type(value, struct udp_flow);
} udp_flows SEC(".maps");

/* One flow a socket for the datagrams whose peer is not known, or whose flow found no room. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct udp_key);
	__type(value, struct udp_flow);
} udp_rest SEC(".maps");

/* By thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct udp_pending);
} udp_waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct udp_call);
} udp_calls SEC(".maps");

/* The last peer that an unconnected socket sent to, by cookie; forgotten like a flow. */
struct udp_sent {
	struct udp_key peer;
	__u64 sent_at;
	__u64 guessed_at; /* when a datagram was last taken to be from that peer */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct udp_sent);
} udp_last SEC(".maps");

/* Weir's own ends, with the time of their last datagram: who exchanges datagrams with them is not reported either. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct udp_end);
	__type(value, __u64);
} udp_self SEC(".maps");

/* Sockets that were there when Weir came, by address; the value is the inode, so that an address used again is told apart. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u64);
} udp_old SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[sizeof(struct udp_flow) / 8]); /* a lock cannot be in an array of each CPU */
} udp_scratch SEC(".maps");

const volatile __u64 udp_idle_timeout = 30000000000ULL;

/* Mapped by user space. */
__u64 udp_wanted = 0;	   /* when a program last asked who sent it a datagram: that is known at the end of the call only */
__u64 udp_exits_since = 0; /* since when ends of system calls are seen; 0: they are not */
__u64 udp_old_lost = 0;	   /* old sockets that found no room: then no socket is known to be young */
__u8 udp_listed = 0;	   /* every older socket is in udp_old */

static __always_inline __u64 inode_of(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
}

static __always_inline bool is_udp(const struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	/* A raw socket may name the same protocol. */
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_UDP && BPF_CORE_READ(sk, sk_type) == SOCK_DGRAM &&
	       (family == AF_INET || family == AF_INET6);
}

/* For the listing: this socket was there before. One that is not bound has never exchanged a datagram. */
static __always_inline void note_old(struct sock *sk)
{
	__u64 key = (__u64)sk, inode;

	if (!is_udp(sk) || !BPF_CORE_READ(sk, __sk_common.skc_num) || !in_scope(sk))
		return;
	inode = inode_of(sk);
	if (bpf_map_update_elem(&udp_old, &key, &inode, BPF_ANY))
		count(&udp_old_lost);
}

/* Whether it is certain that every datagram of this socket was seen. */
static __always_inline bool is_young(const struct sock *sk)
{
	__u64 key = (__u64)sk, *inode;

	if (!udp_listed)
		return false;
	inode = bpf_map_lookup_elem(&udp_old, &key);
	return !inode || *inode != inode_of(sk);
}

#endif
