/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A socket to a record: its ends, its counts, and the way into the ring. */
#ifndef WEIR_FLOW_RECORD_H
#define WEIR_FLOW_RECORD_H

#include "flow_state.h"
#include "flow_filter.h"
#include "flow_mptcp.h"

/* splitmix64's finalizer: a bijection, so distinct inputs give distinct ids. */
static __always_inline __u64 mix(__u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static __always_inline __u64 new_instance_id(__u64 now)
{
	__u32 zero = 0;
	__u64 *next = bpf_map_lookup_elem(&sequence, &zero);
	__u64 number = next ? (*next)++ : 0;

	return mix(now ^ (number << 48) ^ ((__u64)bpf_get_smp_processor_id() << 40) ^ run_random);
}

static __always_inline void read_endpoints(const struct sock *sk, __u8 *family, __u8 *local, __u8 *peer)
{
	static const __u8 mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		bpf_core_read(local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(peer, 16, &sk->__sk_common.skc_v6_daddr);
		*family = 6;
		/* A v6 socket that talks IPv4. The peer decides: the local end may still be unbound. */
		if (!*(__u64 *)peer && *(__u32 *)(peer + 8) == bpf_htonl(0xffff))
			*family = 4;
		return;
	}
	__builtin_memcpy(local, mapped, 12);
	__builtin_memcpy(peer, mapped, 12);
	bpf_core_read(local + 12, 4, &sk->__sk_common.skc_rcv_saddr);
	bpf_core_read(peer + 12, 4, &sk->__sk_common.skc_daddr);
	*family = 4;
}

static __always_inline __u64 transmitted(const struct tcp_sock *tp)
{
	return BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
}

/* bytes_received counts the peer's FIN as one; SOCK_DONE says that it came. */
static __always_inline __u64 received(const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;

	return BPF_CORE_READ(tp, bytes_received) - ((BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE_BIT) & 1);
}

static __always_inline void fill(struct weir_event *e, const struct sock *sk, const struct flow *flow, __u64 now)
{
	const struct tcp_sock *tp = (const void *)sk;

	e->version = WEIR_LAYOUT_VERSION;
	e->transport = IPPROTO_TCP;
	e->role = flow->role;
	e->old_state = 0;
	e->end_cause = 0;
	e->owner_rule = flow->owner_rule;
	e->flags = flow->flags | mptcp_flag(sk);
	e->error = 0;
	e->local_port = bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport)); /* skc_num is 0 at CLOSE */
	e->peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	e->instance_id = flow->id;
	read_endpoints(sk, &e->family, e->local_address, e->peer_address);
	e->start_time = flow->start_time;
	e->time = now;
	e->connect_duration = flow->role == WEIR_ROLE_CLIENT && flow->established_time && flow->start_time ?
				      flow->established_time - flow->start_time : 0;
	e->transmit_bytes = transmitted(tp);
	e->receive_bytes = received(sk);
	e->transmit_packets = BPF_CORE_READ(tp, data_segs_out);
	e->receive_packets = BPF_CORE_READ(tp, data_segs_in);
	e->rtt = BPF_CORE_READ(tp, srtt_us) >> 3;
	e->retransmits = BPF_CORE_READ(tp, total_retrans);
	e->owner_start = flow->owner_start;
	e->owner_pid = flow->owner_pid;
	e->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	e->cgroup_id = flow->cgroup_id;
	__builtin_memcpy(e->asked_address, flow->asked_address, 16);
	e->asked_port = flow->asked_port;
	e->syn_retransmits = flow->flags & WEIR_ESTABLISHED ? flow->syn_retransmits : e->retransmits;
	e->congestion_window = BPF_CORE_READ(tp, snd_cwnd);
	e->send_window = BPF_CORE_READ(tp, snd_wnd);
	e->counted_retransmits = flow->counted_retransmits;
	e->counted_transmit = flow->counted_transmit;
	e->counted_receive = flow->counted_receive;
	__builtin_memcpy(e->comm, flow->comm, 16);
}

static __noinline bool filtered_socket(const struct sock *sk, const struct flow *flow)
{
	__u64 local[2], peer[2];
	__u8 family;

	read_endpoints(sk, &family, (__u8 *)local, (__u8 *)peer);
	return filtered_out(flow, peer, bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport)),
			    bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)), true);
}

static __always_inline void emit(const struct sock *sk, const struct flow *flow, __u8 kind, __u8 old_state, __u8 state,
				 __u8 cause, __u16 error, __u64 now)
{
	struct weir_event *e;

	if (flow->flags & WEIR_SELF) {
		count(&counters.filtered_self);
		return;
	}
	if (filters.any && filtered_socket(sk, flow))
		return;
	count(&counters.begun);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(&counters.ring_full);
	} else {
		fill(e, sk, flow, now);
		e->kind = kind;
		e->old_state = old_state;
		e->state = state;
		e->end_cause = cause;
		e->error = error;
		bpf_ringbuf_submit(e, bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wakeup_bytes ?
					      BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	}
	count(&counters.done);
}

static __always_inline void emit_start(const struct sock *sk, struct flow *flow, __u8 state)
{
	if (!start_events || (flow->flags & WEIR_STARTED) || !(flow->flags & WEIR_START_SEEN))
		return;
	flow->flags |= WEIR_STARTED;
	emit(sk, flow, WEIR_START, 0, state, WEIR_CAUSE_NONE, 0, flow->start_time);
}

/*
 * The side of a connection whose beginning was not seen. The active opener's SYN was acknowledged and counted in
 * bytes_acked, the passive one's was not; a FIN counts too, once it was sent. So what was acknowledged or is on its way,
 * less the payload, is 1 for the one and 0 for the other. Read twice: the counts may be moving.
 */
static __always_inline __u8 role_of(const struct sock *sk, __u8 state)
{
	const struct tcp_sock *tp = (const void *)sk;
	__u64 acked, payload;
	__u32 next, una;
	__s64 more;

	if (state == TCP_SYN_SENT)
		return WEIR_ROLE_CLIENT;
	payload = transmitted(tp);
	acked = BPF_CORE_READ(tp, bytes_acked);
	next = BPF_CORE_READ(tp, snd_nxt);
	una = BPF_CORE_READ(tp, snd_una);
	if (payload != transmitted(tp) || acked != BPF_CORE_READ(tp, bytes_acked) || next != BPF_CORE_READ(tp, snd_nxt) ||
	    una != BPF_CORE_READ(tp, snd_una))
		return WEIR_ROLE_UNKNOWN;
	more = acked + (next - una) - payload;
	if (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT)
		return more == 1 ? WEIR_ROLE_CLIENT : more == 0 ? WEIR_ROLE_SERVER : WEIR_ROLE_UNKNOWN;
	/* The FIN is on its way, or waits behind data. */
	if (more == 1 && state == TCP_FIN_WAIT2)
		return WEIR_ROLE_SERVER;
	return more == 2 ? WEIR_ROLE_CLIENT : more == 0 ? WEIR_ROLE_SERVER : WEIR_ROLE_UNKNOWN;
}

/* A socket that is older than Weir (or that found the table full): counted from here on, reported since its birth. */
static __always_inline void adopt(const struct sock *sk, struct flow *flow, __u64 now, __u8 state)
{
	flow->id = new_instance_id(now);
	flow->flags = WEIR_COUNTED | (state == TCP_SYN_SENT ? 0 : WEIR_ESTABLISHED);
	flow->role = role_of(sk, state);
	flow->last_event = now;
	flow->counted_transmit = transmitted((const void *)sk);
	flow->counted_receive = received(sk);
	flow->counted_retransmits = BPF_CORE_READ((const struct tcp_sock *)sk, total_retrans);
}

/* The ends of a socket as it names them itself, or `swapped` as its peer's socket does. */
static __always_inline void read_ends(const struct sock *sk, struct endpoints *ends, bool swapped)
{
	__u8 family;

	read_endpoints(sk, &family, swapped ? ends->peer_address : ends->local_address,
		       swapped ? ends->local_address : ends->peer_address);
	*(swapped ? &ends->peer_port : &ends->local_port) =
		bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
	*(swapped ? &ends->local_port : &ends->peer_port) = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

static __always_inline void remember_self(const struct sock *sk)
{
	struct endpoints ends = {};
	__u8 mark = 1;

	read_ends(sk, &ends, true);
	bpf_map_update_elem(&self_peers, &ends, &mark, BPF_ANY);
}

static __always_inline bool is_self_peer(const struct sock *sk)
{
	struct endpoints ends = {};

	read_ends(sk, &ends, false);
	return bpf_map_lookup_elem(&self_peers, &ends);
}

#endif
