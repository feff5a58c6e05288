/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What flow capture knows: the tables of open sockets and of owners, the rings, the settings and the counters. */
#ifndef WEIR_FLOW_STATE_H
#define WEIR_FLOW_STATE_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "weir_event.h"

struct flow {
	__u64 id;
	__u64 start_time;
	__u64 established_time;
	__u64 owner_start;
	__u64 cgroup_id;
	__u64 last_event;
	__u64 counted_transmit;
	__u64 counted_receive;
	__u32 counted_retransmits;
	__u32 owner_pid;
	__u8 role;
	__u8 owner_rule;
	__u8 flags;
	__u8 listed; /* the filters that list its owner */
	__u16 asked_port;
	__u16 syn_retransmits;
	__u8 asked_address[16];
	__u8 comm[16];
};

struct endpoints {
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct weir_owner_key);
	__type(value, struct weir_owner);
} owners SEC(".maps");

/* The far end of Weir's own connections, as the peer's socket will name itself. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct endpoints);
	__type(value, __u8);
} self_peers SEC(".maps");

/* Weir's own sockets: known as such also where `flows` has no room for them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, __u8);
} self_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} events SEC(".maps");

/* Keys of owner entries just written: user space may look at a process while it lives. Full: it is looked at later. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} newcomers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_owner);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sequence SEC(".maps");

/* Set before load. */
const volatile __u32 scope_netns = 0; /* 0: every network namespace */
const volatile __u32 self_pid = 0;    /* in Weir's own pid namespace */
const volatile __u64 self_pidns_dev = 0;
const volatile __u64 self_pidns_ino = 0;
const volatile __u64 run_random = 0;
const volatile __u64 wakeup_bytes = 0; /* the fill of the ring that wakes its reader */
const volatile __u8 start_events = 0;

/* Mapped by user space. */
struct weir_counters counters = {};
__u64 pass_update_interval = 0; /* ns; 0: no update events in this pass */
__u8 pass_shutdown = 0;
__u64 noroutes_waiting = 0; /* connects that found no route and are not reported yet */
__u8 listing = 0;  /* the sockets that are older than Weir are being listed */
__u64 listed = 0;  /* of them: how many were added */
__u8 stopping = 0; /* sockets not yet known stay unknown: observation ends */

/* The wire structs are kept in BTF, which the dtypes are made from. */
struct weir_event *unused_event __attribute__((unused));
struct weir_owner *unused_owner __attribute__((unused));
struct weir_owner_key *unused_owner_key __attribute__((unused));

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline bool in_scope(const struct sock *sk)
{
	if (!scope_netns)
		return true;
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == scope_netns;
}

#endif
