/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Destination NAT by netfilter in the socket's own network namespace: the socket names the address that was asked for, and
 * the conntrack entry of its SYN the one that it reaches.
 *
 * User space attaches this only while conntrack has entries: it runs for each packet that leaves.
 */
#ifndef WEIR_FLOW_NAT_H
#define WEIR_FLOW_NAT_H

#include "flow_state.h"
#include "kernel_net.h"

SEC("raw_tp/net_dev_queue")
int weir_nat(struct bpf_raw_tracepoint_args *ctx)
{
	const struct sk_buff *skb = (const void *)ctx->args[0];
	const struct nf_conn *tracked = (const void *)(BPF_CORE_READ(skb, _nfct) & ~7ULL); /* the lower bits say how */
	const struct sock *sk;
	struct flow *flow;
	__u64 key;
	__u16 family;

	if (!tracked || !(BPF_CORE_READ(tracked, status) & IPS_DST_NAT))
		return 0;
	sk = BPF_CORE_READ(skb, sk);
	if (!sk || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_SYN_SENT)
		return 0;
	key = (__u64)sk;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return 0;
	family = BPF_CORE_READ(tracked, tuplehash[1].tuple.src.l3num); /* whoever answers is who was reached */
	if (family == AF_INET6) {
		bpf_core_read(flow->asked_address, 16, &tracked->tuplehash[1].tuple.src.u3);
	} else if (family == AF_INET) {
		*(__u64 *)flow->asked_address = 0;
		*(__u32 *)(flow->asked_address + 8) = bpf_htonl(0xffff);
		bpf_core_read(flow->asked_address + 12, 4, &tracked->tuplehash[1].tuple.src.u3);
	} else {
		return 0;
	}
	flow->asked_port = bpf_ntohs(BPF_CORE_READ(tracked, tuplehash[1].tuple.src.u.all));
	return 0;
}

#endif
