/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * MPTCP: what programs hold is a socket without bytes; its connections are TCP sockets of their own, the subflows.
 *
 * The subflows are the flows. Programs use the socket above them, so that names the owner of its first subflow (its
 * `first`), and the others, which the kernel opens by itself, take the owner of the first.
 */
#ifndef WEIR_FLOW_MPTCP_H
#define WEIR_FLOW_MPTCP_H

#include "flow_state.h"
#include "kernel_net.h"

#define MPTCP_SUBFLOWS 9 /* MPTCP_SUBFLOWS_MAX, and the first */

/* Who uses an MPTCP socket owns its subflows. */
static __noinline void on_mptcp_use(const struct sock *msk, __u8 rule, bool locked);

/* The socket that has the bytes: of an MPTCP socket the first subflow; NULL where it has none (any more). */
static __always_inline struct sock *with_bytes(struct sock *sk)
{
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_MPTCP)
		return sk;
	return bpf_core_field_exists(struct mptcp_sock, first) ? BPF_CORE_READ((struct mptcp_sock *)sk, first) : NULL;
}

static __always_inline struct mptcp_subflow_context *subflow_of(const struct sock *sk)
{
	if (!bpf_core_field_exists(struct tcp_sock, is_mptcp) || !BPF_CORE_READ((const struct tcp_sock *)sk, is_mptcp))
		return NULL;
	return BPF_CORE_READ((const struct inet_connection_sock *)sk, icsk_ulp_data);
}

/* WEIR_MPTCP, where both ends agreed on it: else the socket above has fallen back to plain TCP. */
static __always_inline __u8 mptcp_flag(const struct sock *sk)
{
	struct mptcp_subflow_context *subflow = subflow_of(sk);

	return subflow && (BPF_CORE_READ_BITFIELD_PROBED(subflow, mp_capable) ||
			   BPF_CORE_READ_BITFIELD_PROBED(subflow, mp_join)) ? WEIR_MPTCP : 0;
}

static __always_inline void copy_owner(struct flow *flow, const struct flow *from)
{
	flow->owner_pid = from->owner_pid;
	flow->owner_start = from->owner_start;
	flow->cgroup_id = from->cgroup_id;
	flow->listed = from->listed;
	__builtin_memcpy(flow->comm, from->comm, sizeof(flow->comm));
	flow->owner_rule = from->owner_rule;
}

/* A subflow that no process has opened or used: its owner is that of the first one. */
static __always_inline void take_mptcp_owner(const struct sock *sk, struct flow *flow)
{
	struct mptcp_subflow_context *subflow;
	struct sock *msk, *first;
	struct flow *known;
	__u64 key;

	if (flow->owner_rule)
		return;
	subflow = subflow_of(sk);
	if (!subflow)
		return;
	msk = BPF_CORE_READ(subflow, conn);
	first = with_bytes(msk);
	key = (__u64)first;
	if (!first || first == sk || first == msk)
		return;
	known = bpf_map_lookup_elem(&flows, &key);
	if (known && known->owner_rule)
		copy_owner(flow, known);
}

/* The owner of the first subflow has just become known: those that joined before have the same. */
static __always_inline void give_mptcp_owner(const struct mptcp_sock *msk, const struct flow *first)
{
	const struct list_head *node = BPF_CORE_READ(msk, conn_list.next);
	int i;

	for (i = 0; i < MPTCP_SUBFLOWS && node; i++) {
		const struct mptcp_subflow_context *subflow =
			(const void *)node - __builtin_offsetof(struct mptcp_subflow_context, node);
		__u64 key;
		struct flow *flow;

		if (node == __builtin_preserve_access_index(&msk->conn_list))
			return;
		key = (__u64)BPF_CORE_READ(subflow, tcp_sock);
		flow = bpf_map_lookup_elem(&flows, &key);
		if (flow && !flow->owner_rule)
			copy_owner(flow, first);
		node = BPF_CORE_READ(node, next);
	}
}

#endif
