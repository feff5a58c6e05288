/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The sockets that are older than Weir: listed once, right after the programs were attached.
 *
 * First by the files of all tasks, which names the owner, then by the TCP table of Weir's own network namespace, for what
 * no visible task has open (another pid namespace's, not yet accepted, orphaned). Both only add what is not known yet, so
 * whatever an event has seen meanwhile stands.
 */
#ifndef WEIR_FLOW_LISTING_H
#define WEIR_FLOW_LISTING_H

#include "flow_state.h"
#include "flow_record.h"
#include "flow_owner.h"
#include "flow_udp_state.h"

/* Sockets whose close was reported while the listing runs, and that it must not add any more. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u8);
} reported SEC(".maps");

/* On the reporting side: say it first, then take away what the listing may have added. */
static __always_inline void leave_to_report(__u64 key)
{
	__u8 mark = 1;

	if (!listing)
		return;
	bpf_map_update_elem(&reported, &key, &mark, BPF_ANY);
	bpf_map_delete_elem(&flows, &key);
}

static __always_inline void list(struct sock *sk, struct task_struct *leader, __u32 tgid)
{
	__u64 key, now = bpf_ktime_get_boot_ns();
	struct flow flow = {}, *known;
	__u8 state;

	sk = with_bytes(sk);
	key = (__u64)sk;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || !in_scope(sk))
		return;
	if (state != TCP_ESTABLISHED && state != TCP_SYN_SENT && state != TCP_FIN_WAIT1 && state != TCP_FIN_WAIT2 &&
	    state != TCP_CLOSE_WAIT && state != TCP_LAST_ACK && state != TCP_CLOSING)
		return;
	known = bpf_map_lookup_elem(&flows, &key);
	if (known) { /* by an event, or by an earlier walk, which may not have known Weir's own yet */
		if (!(known->flags & (WEIR_START_SEEN | WEIR_SELF)) && is_self_peer(sk))
			known->flags |= WEIR_SELF;
		return;
	}
	adopt(sk, &flow, now, state);
	if (leader) {
		name_owner(&flow, leader, tgid, WEIR_OWNER_LISTING, BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn, id),
			   BPF_CORE_READ(leader, cred, uid.val));
		if (tgid == bpf_get_current_pid_tgid() >> 32) { /* whoever reads the iterator is Weir */
			flow.flags |= WEIR_SELF;
			remember_self(sk);
		}
	}
	if (bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST)) {
		if (!bpf_map_lookup_elem(&flows, &key))
			count(&counters.flows_full);
		return;
	}
	if (bpf_map_lookup_elem(&reported, &key))
		bpf_map_delete_elem(&flows, &key);
	else
		listed++;
}

SEC("iter/task_file")
int weir_list_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = BPF_CORE_READ(socket, sk);
	if (!sk)
		return 0;
	list(sk, BPF_CORE_READ(task, group_leader), BPF_CORE_READ(task, tgid));
	note_old(sk);
	return 0;
}

SEC("iter/tcp")
int weir_list_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;

	/* Its states say that it is a full socket: neither a request (NEW_SYN_RECV) nor a TIME_WAIT is among them. */
	if (common)
		list((struct sock *)common, NULL, 0);
	return 0;
}

#endif
