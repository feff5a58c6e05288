// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * TCP flows: one record when a connection ends (and, where asked for, when it starts), with the owner of the socket.
 *
 * What is known of an open socket lives in `flows`, keyed by its address; the byte counts stay where the kernel
 * keeps them, in tcp_sock, and are read when a record leaves. Raw tracepoints only: CAP_BPF and CAP_PERFMON suffice.
 */
#include "flow_state.h"
#include "flow_mptcp.h"
#include "flow_record.h"
#include "flow_owner.h"
#include "flow_listing.h"
#include "flow_noroute.h"
#include "flow_nat.h"
#include "flow_udp.h"
#include "flow_udp_pass.h"
#include "flow_dns.h"

static __always_inline struct flow *track(struct sock *sk, const struct flow *fresh)
{
	__u64 key = (__u64)sk;

	if (bpf_map_update_elem(&flows, &key, fresh, BPF_ANY)) {
		count(&counters.flows_full);
		return NULL;
	}
	return bpf_map_lookup_elem(&flows, &key);
}

static __always_inline void on_syn_sent(struct sock *sk)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_boot_ns();
	struct flow flow = {};
	__u8 mark = 1;

	noroute_take_back();
	if (stopping)
		return;
	if (bpf_map_lookup_elem(&flows, &key))
		count(&counters.replaced);
	flow.id = new_instance_id(now);
	flow.start_time = flow.last_event = now;
	flow.role = WEIR_ROLE_CLIENT;
	flow.flags = WEIR_START_SEEN;
	take_owner(sk, &flow, WEIR_OWNER_CONNECT, true);
	if (is_self()) {
		flow.flags |= WEIR_SELF;
		bpf_map_update_elem(&self_sockets, &key, &mark, BPF_ANY);
	} else {
		read_asked(&flow);
	}
	track(sk, &flow);
}

static __always_inline void on_established(struct sock *sk, int old)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_boot_ns();
	struct flow fresh = {}, *flow = NULL;

	if (old != TCP_SYN_RECV)
		flow = bpf_map_lookup_elem(&flows, &key);
	else if ((flow = bpf_map_lookup_elem(&flows, &key)) && flow->role != WEIR_ROLE_CLIENT) {
		count(&counters.replaced); /* simultaneous open keeps its client */
		flow = NULL;
	}
	if (flow) {
		flow->established_time = now;
		flow->syn_retransmits = BPF_CORE_READ((struct tcp_sock *)sk, total_retrans);
		flow->flags |= WEIR_ESTABLISHED;
		take_mptcp_owner(sk, flow);
		if (flow->flags & WEIR_SELF)
			remember_self(sk);
		emit_start(sk, flow, TCP_ESTABLISHED);
		return;
	}
	if (stopping)
		return;
	fresh.id = new_instance_id(now);
	fresh.flags = WEIR_ESTABLISHED;
	fresh.last_event = fresh.established_time = now;
	fresh.syn_retransmits = BPF_CORE_READ((struct tcp_sock *)sk, total_retrans);
	if (old == TCP_SYN_RECV) {
		fresh.role = WEIR_ROLE_SERVER;
		fresh.start_time = now;
		fresh.flags |= WEIR_START_SEEN;
		if (is_self_peer(sk))
			fresh.flags |= WEIR_SELF;
	} else {
		fresh.role = WEIR_ROLE_CLIENT;
		if (bpf_map_lookup_elem(&self_sockets, &key)) {
			fresh.flags |= WEIR_SELF;
			remember_self(sk);
		}
	}
	track(sk, &fresh);
}

static __always_inline __u8 cause_of(int old, __u8 flags, int error, __u16 local_port)
{
	if (!(flags & WEIR_ESTABLISHED))
		return error || !local_port ? WEIR_CAUSE_FAILED : WEIR_CAUSE_ABORTED;
	if (error == ECONNRESET || error == EPIPE)
		return WEIR_CAUSE_RESET;
	if (error)
		return error == ETIMEDOUT || error == EHOSTUNREACH ? WEIR_CAUSE_TIMEOUT : WEIR_CAUSE_RESET;
	/* Straight to CLOSE without a FIN of our own: an RST left instead of it. */
	if (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT || old == TCP_SYN_RECV || old == TCP_FIN_WAIT1)
		return WEIR_CAUSE_RESET;
	return WEIR_CAUSE_CLOSED;
}

/*
 * What ICMP said of a connect that its process has given up since. While the process held the socket's lock it only
 * became a soft error, which SO_ERROR takes away; IPv4 leaves it in the error queue as well.
 */
static __always_inline int icmp_error(const struct sock___errors *sk)
{
	int error = BPF_CORE_READ(sk, sk_err_soft);
	const struct sock_exterr_skb *last;
	const struct sk_buff *skb;
	__u8 origin;

	if (error || !BPF_CORE_READ(sk, sk_error_queue.qlen))
		return error;
	skb = BPF_CORE_READ(sk, sk_error_queue.prev);
	last = (const void *)__builtin_preserve_access_index(&skb->cb);
	origin = BPF_CORE_READ(last, ee.ee_origin);
	return origin == SO_EE_ORIGIN_ICMP || origin == SO_EE_ORIGIN_ICMP6 ? BPF_CORE_READ(last, ee.ee_errno) : 0;
}

static __always_inline void on_close(struct sock *sk, int old)
{
	__u64 key = (__u64)sk, now;
	struct flow *known = bpf_map_lookup_elem(&flows, &key), flow = {};
	int error = BPF_CORE_READ(sk, sk_err);

	if (old == TCP_LISTEN || old == TCP_CLOSE || (old == TCP_SYN_RECV && !known))
		return;
	now = bpf_ktime_get_boot_ns();
	if (known) {
		flow = *known;
		/* Whoever deletes the entry reports the flow: this, or the pass at shutdown. */
		if (bpf_map_delete_elem(&flows, &key))
			return;
	} else {
		if (stopping)
			return;
		adopt(sk, &flow, now, old);
		leave_to_report(key);
	}
	take_mptcp_owner(sk, &flow);
	if (!error && !(flow.flags & WEIR_ESTABLISHED) && old == TCP_SYN_SENT)
		error = icmp_error((const void *)sk);
	/* No FIN and no error: the closer itself sends the RST, in its own context. */
	if (!error && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT))
		take_owner(sk, &flow, WEIR_OWNER_CLOSE, true);
	if (flow.flags & WEIR_SELF && flow.role == WEIR_ROLE_CLIENT) {
		struct endpoints ends = {};

		read_ends(sk, &ends, true);
		bpf_map_delete_elem(&self_peers, &ends);
	} else if (!(flow.flags & WEIR_START_SEEN) &&
		   (bpf_map_lookup_elem(&self_sockets, &key) || is_self_peer(sk))) {
		flow.flags |= WEIR_SELF;
	}
	if (flow.flags & WEIR_SELF)
		bpf_map_delete_elem(&self_sockets, &key);
	emit_start(sk, &flow, TCP_ESTABLISHED);
	emit(sk, &flow, WEIR_END, old, TCP_CLOSE,
	     cause_of(old, flow.flags, error, BPF_CORE_READ((struct inet_sock *)sk, inet_sport)), error, now);
}

/* The owner's rules 2 to 4: who first receives, sends or closes. */
static __always_inline void on_use(struct sock *sk, __u8 rule, bool locked, __u8 state)
{
	__u64 key = (__u64)sk;
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);

	if (!flow) {
		struct flow fresh = {};
		__u8 now = BPF_CORE_READ(sk, __sk_common.skc_state);

		/* Data may be read, and sent in vain, after the end was reported. Who holds the lock sees no other state than this. */
		if (stopping || !locked || !BPF_CORE_READ(sk, sk_lock.owned) || now == TCP_CLOSE || now == TCP_LISTEN)
			return;
		adopt(sk, &fresh, bpf_ktime_get_boot_ns(), now);
		flow = track(sk, &fresh);
		if (!flow)
			return;
	}
	if (flow->owner_rule)
		return;
	take_owner(sk, flow, rule, locked);
	if (!flow->owner_rule)
		return;
	/* A connection of Weir's own that an earlier configuration opened. */
	if (!(flow->flags & WEIR_START_SEEN) && is_self()) {
		flow->flags |= WEIR_SELF;
		remember_self(sk);
	}
	emit_start(sk, flow, state);
}

/* An MPTCP socket is no flow: whoever uses it owns its first subflow, and so the others. */
static __noinline void on_mptcp_use(const struct sock *msk, __u8 rule, bool locked)
{
	struct sock *sk;
	struct flow *flow;
	__u64 key;
	__u8 state;

	if (!in_scope(msk) || (locked && !BPF_CORE_READ(msk, sk_lock.owned)))
		return;
	sk = with_bytes((struct sock *)msk);
	key = (__u64)sk;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow->owner_rule)
		return;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || state == TCP_CLOSE || state == TCP_LISTEN || !state)
		return;
	on_use(sk, rule, false, state);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow->owner_rule)
		give_mptcp_owner((const struct mptcp_sock *)msk, flow);
}

SEC("raw_tp/inet_sock_set_state")
int weir_set_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int old = ctx->args[1], new = ctx->args[2];

	if (new != TCP_ESTABLISHED && new != TCP_SYN_SENT && new != TCP_FIN_WAIT1 && new != TCP_CLOSE &&
	    new != TCP_LAST_ACK)
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP && (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK))
		on_mptcp_use(sk, WEIR_OWNER_CLOSE, true);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || !in_scope(sk))
		return 0;
	if (new == TCP_SYN_SENT)
		on_syn_sent(sk);
	else if (new == TCP_ESTABLISHED)
		on_established(sk, old);
	else if (new == TCP_CLOSE)
		on_close(sk, old);
	else /* FIN_WAIT1 and LAST_ACK come from close() and shutdown() only, in their caller */
		on_use(sk, WEIR_OWNER_CLOSE, true, new);
	return 0;
}

SEC("raw_tp/tcp_rcv_space_adjust")
int weir_receive(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && in_scope(sk))
		on_use(sk, WEIR_OWNER_RECEIVE, true, TCP_ESTABLISHED);
	return 0;
}

/* Traced outside lock_sock, but by its nature never in softirq. */
SEC("raw_tp/sock_send_length")
int weir_send(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	__u8 state;

	if ((int)ctx->args[1] <= 0)
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP)
		on_mptcp_use(sk, WEIR_OWNER_SEND, false);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (state == TCP_CLOSE || state == TCP_LISTEN || state == TCP_SYN_SENT || !in_scope(sk))
		return 0;
	on_use(sk, WEIR_OWNER_SEND, false, state);
	return 0;
}

/*
 * The pass over the open sockets: a sample of each for the metrics, an update event where one is due, and at shutdown
 * the last report of every flow. It walks Weir's own table, so it costs what is open and needs no namespace to be entered.
 * A socket that two passes find closed had its CLOSE missed (a tracepoint program that is interrupted by itself is skipped
 * by the kernel): the pass reports its end.
 */
SEC("iter/bpf_map_elem")
int weir_pass(struct bpf_iter__bpf_map_elem *ctx)
{
	const __u64 *key = ctx->key;
	struct flow *value = ctx->value, flow;
	struct weir_event e = {};
	struct sock *sk;
	__u64 address, now;
	__u8 state;

	if (!key || !value)
		return 0;
	address = *key;
	sk = (struct sock *)address;
	if (!in_scope(sk)) { /* its end was missed, and another namespace's socket has its place */
		if (!bpf_map_delete_elem(&flows, &address))
			count(&counters.replaced);
		return 0;
	}
	take_mptcp_owner(sk, value);
	flow = *value;
	if (!(flow.flags & (WEIR_START_SEEN | WEIR_SELF)) && is_self_peer(sk)) {
		flow.flags |= WEIR_SELF;
		value->flags |= WEIR_SELF;
	}
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	/* Closed meanwhile: its end is on its way, unless it was missed (see `closed_before`). */
	if (state == TCP_CLOSE && !(flow.flags & WEIR_CLOSED_BEFORE)) {
		value->flags |= WEIR_CLOSED_BEFORE;
		return 0;
	}
	if (state == TCP_SYN_SENT && !pass_shutdown)
		return 0;
	now = bpf_ktime_get_boot_ns();
	fill(&e, sk, &flow, now);
	e.state = state;
	e.kind = WEIR_SAMPLE;
	if (state == TCP_CLOSE) {
		e.kind = WEIR_END;
		e.end_cause = WEIR_CAUSE_CLOSED;
	} else if (pass_shutdown) {
		e.kind = WEIR_END;
		e.end_cause = WEIR_CAUSE_SHUTDOWN;
	} else if (pass_update_interval && now - flow.last_event >= pass_update_interval) {
		e.kind = WEIR_UPDATE;
	}
	/* Whoever deletes the entry reports the flow: this, or the CLOSE that may be running on another CPU. */
	if (e.kind == WEIR_END && bpf_map_delete_elem(&flows, &address))
		return 0;
	if (flow.flags & WEIR_SELF && e.kind != WEIR_SAMPLE)
		count(&counters.filtered_self);
	if (flow.flags & WEIR_SELF ||
	    filtered_out(&flow, e.peer_address, e.local_port, e.peer_port, e.kind != WEIR_SAMPLE)) {
		if (e.kind == WEIR_UPDATE)
			value->last_event = now;
		return 0;
	}
	if (bpf_seq_write(ctx->meta->seq, &e, sizeof(e))) {
		/* No room in this read's buffer: the kernel calls again for the same element. */
		if (e.kind == WEIR_END)
			bpf_map_update_elem(&flows, &address, &flow, BPF_NOEXIST);
		return 0;
	}
	if (e.kind != WEIR_SAMPLE) {
		count(&counters.begun);
		count(&counters.done);
	}
	if (e.kind == WEIR_END)
		return 0;
	if (e.kind == WEIR_UPDATE)
		value->last_event = now;
	value->counted_transmit = e.transmit_bytes;
	value->counted_receive = e.receive_bytes;
	value->counted_retransmits = e.retransmits;
	value->flags |= WEIR_COUNTED;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
