/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Datagrams to the flow that they belong to: found or begun, with its side and its owner, and added to. */
#ifndef WEIR_FLOW_UDP_COUNT_H
#define WEIR_FLOW_UDP_COUNT_H

#include "flow_udp_state.h"
#include "flow_record.h"
#include "flow_owner.h"

#define SELF_FRESH 5000000000ULL /* ns: a port that Weir has left may be somebody else's soon */

/* What a call did: one datagram, or several of one size. */
struct datagrams {
	const struct sock *sk; /* NULL: `young` says it */
	const struct udp_end *end;
	__u32 bytes;
	__u32 count;
	bool transmit;
	bool young;
	__u8 flags;
};

static __always_inline bool is_rest(const struct udp_key *key)
{
	return !key->peer_port && (*(__u64 *)(key->peer_address + 8) & 0xffffffff00000000ULL) == 0;
}

static __always_inline void to_rest(struct udp_key *key, __u8 family)
{
	key->peer_port = 0;
	__builtin_memset(key->peer_address, 0, 16);
	if (family == AF_INET)
		key->peer_address[10] = key->peer_address[11] = 0xff;
}

static __always_inline struct udp_flow *find(const struct udp_key *key)
{
	return is_rest(key) ? bpf_map_lookup_elem(&udp_rest, key) : bpf_map_lookup_elem(&udp_flows, key);
}

static __always_inline void forget(const struct udp_key *key)
{
	if (is_rest(key))
		bpf_map_delete_elem(&udp_rest, key);
	else
		bpf_map_delete_elem(&udp_flows, key);
}

/* All of a record but what moves. */
static __always_inline void fill_udp(struct weir_event *e, const struct udp_flow *udp)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->version = WEIR_LAYOUT_VERSION;
	e->transport = IPPROTO_UDP;
	e->family = udp->end.family == AF_INET6 ? 6 : 4;
	__builtin_memcpy(e->local_address, udp->end.local_address, 16);
	__builtin_memcpy(e->peer_address, udp->key.peer_address, 16);
	if (e->family == 6 && !*(__u64 *)e->peer_address && *(__u32 *)(e->peer_address + 8) == bpf_htonl(0xffff)) {
		e->family = 4;
		*(__u32 *)(e->local_address + 8) = bpf_htonl(0xffff); /* bound to any: the IPv4 one */
	}
	e->role = udp->flow.role;
	e->owner_rule = udp->flow.owner_rule;
	e->local_port = udp->end.local_port;
	e->peer_port = udp->key.peer_port;
	e->instance_id = udp->flow.id;
	e->start_time = udp->flow.start_time;
	e->owner_start = udp->flow.owner_start;
	e->owner_pid = udp->flow.owner_pid;
	e->netns = udp->end.netns;
	e->cgroup_id = udp->flow.cgroup_id;
	__builtin_memcpy(e->comm, udp->flow.comm, 16);
}

static __always_inline void emit_udp_start(const struct udp_flow *udp)
{
	struct weir_event *e;

	if (!start_events || !(udp->flow.flags & WEIR_START_SEEN))
		return;
	if (udp->flow.flags & WEIR_SELF) {
		count(&counters.filtered_self);
		return;
	}
	if (filtered_out(&udp->flow, udp->key.peer_address, udp->end.local_port, udp->key.peer_port, true))
		return;
	count(&counters.begun);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(&counters.ring_full);
	} else {
		fill_udp(e, udp);
		e->kind = WEIR_START;
		e->flags = udp->flow.flags;
		e->time = e->start_time;
		bpf_ringbuf_submit(e, bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wakeup_bytes ?
					      BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	}
	count(&counters.done);
}

/* Whether the far end is one of Weir's own sockets, in this network namespace. */
static __always_inline bool is_udp_self_peer(const struct udp_key *key, const struct udp_end *end, __u64 now)
{
	struct udp_end far = {};
	__u64 *seen;

	__builtin_memcpy(far.local_address, key->peer_address, 16);
	far.local_port = key->peer_port;
	far.netns = end->netns;
	seen = bpf_map_lookup_elem(&udp_self, &far);
	return seen && now - *seen < SELF_FRESH;
}

static __always_inline void remember_udp_self(const struct udp_end *end, __u64 now)
{
	struct udp_end near = *end;

	near.family = 0;
	bpf_map_update_elem(&udp_self, &near, &now, BPF_ANY);
}

/*
 * The side that this end is on, and whether this datagram is the flow's first: certain only if the socket is younger than
 * Weir, and if none of its datagrams, of those whose peer is not known, may belong to this flow.
 */
static __always_inline void find_side(struct flow *flow, const struct udp_key *key, const struct datagrams *d, __u64 now)
{
	struct udp_key all = *key;
	struct udp_flow *rest;
	struct udp_sent *last;
	bool received = false, transmitted = false;

	if (is_rest(key) || !(d->sk ? is_young(d->sk) : d->young))
		return;
	to_rest(&all, d->end->family);
	rest = bpf_map_lookup_elem(&udp_rest, &all);
	if (rest) {
		received = rest->receive_packets;
		transmitted = rest->transmit_packets;
	}
	last = bpf_map_lookup_elem(&udp_last, &all.cookie);
	if (last && last->guessed_at)
		received = true;
	if (d->transmit && !received)
		flow->role = WEIR_ROLE_CLIENT;
	else if (!d->transmit && !transmitted)
		flow->role = WEIR_ROLE_SERVER;
	if (received || transmitted)
		return;
	flow->flags = WEIR_START_SEEN;
	flow->start_time = now;
}

static __always_inline struct udp_flow *begin(const struct udp_key *key, const struct datagrams *d, __u64 now)
{
	__u32 zero = 0;
	struct udp_flow *fresh = (void *)bpf_map_lookup_elem(&udp_scratch, &zero), *udp;
	long failed;

	if (!fresh || stopping)
		return NULL;
	__builtin_memset(fresh, 0, __builtin_offsetof(struct udp_flow, lock));
	fresh->key = *key;
	fresh->end = *d->end;
	fresh->last_seen = now;
	fresh->flow.id = new_instance_id(now);
	fresh->flow.last_event = now;
	find_side(&fresh->flow, key, d, now);
	take_owner(NULL, &fresh->flow, d->transmit ? WEIR_OWNER_SEND : WEIR_OWNER_RECEIVE, false);
	if (is_self() || is_udp_self_peer(key, d->end, now))
		fresh->flow.flags |= WEIR_SELF;
	if (is_rest(key))
		failed = bpf_map_update_elem(&udp_rest, key, fresh, BPF_NOEXIST);
	else
		failed = bpf_map_update_elem(&udp_flows, key, fresh, BPF_NOEXIST);
	udp = find(key); /* another CPU may have been first */
	if (udp && !failed)
		emit_udp_start(fresh);
	return udp;
}

static __always_inline bool is_same_peer(const struct udp_key *one, const struct udp_key *other)
{
	return one->peer_port == other->peer_port &&
	       *(__u64 *)one->peer_address == *(__u64 *)other->peer_address &&
	       *(__u64 *)(one->peer_address + 8) == *(__u64 *)(other->peer_address + 8);
}

static __always_inline bool add(struct udp_flow *udp, const struct udp_key *key, const struct datagrams *d, __u64 now)
{
	bool done = false;

	bpf_spin_lock(&udp->lock);
	if (!udp->ended && udp->key.cookie == key->cookie && is_same_peer(&udp->key, key)) {
		if (d->transmit) {
			udp->transmit_bytes += d->bytes;
			udp->transmit_packets += d->count;
		} else {
			udp->receive_bytes += d->bytes;
			udp->receive_packets += d->count;
		}
		if (udp->last_seen < now)
			udp->last_seen = now;
		udp->flow.flags |= d->flags;
		done = true;
	}
	bpf_spin_unlock(&udp->lock);
	return done;
}

/* To the flow of `key`; where it has no room, or ends at this very moment, to the rest of its socket. */
static __always_inline void on_datagrams(struct udp_key *key, const struct datagrams *d)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct udp_flow *udp = find(key);

	if (!udp)
		udp = begin(key, d, now);
	if (udp && udp->flow.flags & WEIR_SELF && d->transmit)
		remember_udp_self(d->end, now);
	if (udp && add(udp, key, d, now))
		return;
	if (stopping)
		return;
	if (!is_rest(key)) {
		if (!udp)
			count(&counters.udp_full);
		to_rest(key, d->end->family);
		udp = bpf_map_lookup_elem(&udp_rest, key);
		if (!udp)
			udp = begin(key, d, now);
		if (udp && add(udp, key, d, now))
			return;
	}
	count(&counters.udp_missed);
}

#endif
