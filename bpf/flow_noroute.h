/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connects that fail before there is anything to see of a socket: no route to the address asked for.
 *
 * A TCP socket changes no state then. What can be seen is the route lookup that found nothing, in the connecting thread,
 * for the address in its connect(2). Another table may still have a route, so the thread's next SYN_SENT takes it back;
 * what was not taken back for a moment is reported by `weir_noroute`, which user space runs when something waits.
 */
#ifndef WEIR_FLOW_NOROUTE_H
#define WEIR_FLOW_NOROUTE_H

#include "flow_state.h"
#include "flow_record.h"
#include "flow_owner.h"

#define NOROUTE_SETTLED 20000000ULL /* ns: by then a connect that goes on has gone on */
/* One connect asks several tables, and IPv6 asks twice. Lookups for one socket, at most so far apart, are one connect's. */
#define NOROUTE_TOGETHER 1000000ULL

struct noroute {
	struct flow flow;
	__u64 inode; /* of the socket: no two have the same */
	__u64 last;
	__u8 family;
	__u8 reserved;
	__u16 error;
	__u32 netns;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64); /* thread */
	__type(value, struct noroute);
} noroutes SEC(".maps");

static __always_inline void noroute_report(const struct noroute *found)
{
	struct weir_event *e;

	if (found->flow.flags & WEIR_SELF) {
		count(&counters.filtered_self);
		return;
	}
	count(&counters.begun);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(&counters.ring_full);
	} else {
		__builtin_memset(e, 0, sizeof(*e));
		e->version = WEIR_LAYOUT_VERSION;
		e->kind = WEIR_END;
		e->family = found->family;
		e->transport = IPPROTO_TCP;
		e->role = WEIR_ROLE_CLIENT;
		e->old_state = e->state = TCP_CLOSE;
		e->end_cause = WEIR_CAUSE_FAILED;
		e->owner_rule = found->flow.owner_rule;
		e->flags = WEIR_START_SEEN;
		e->error = found->error;
		e->peer_port = found->flow.asked_port;
		e->instance_id = found->flow.id;
		if (found->family == 4)
			e->local_address[10] = e->local_address[11] = 0xff;
		__builtin_memcpy(e->peer_address, found->flow.asked_address, 16);
		e->start_time = e->time = found->flow.start_time;
		e->owner_start = found->flow.owner_start;
		e->owner_pid = found->flow.owner_pid;
		e->netns = found->netns;
		e->cgroup_id = found->flow.cgroup_id;
		__builtin_memcpy(e->comm, found->flow.comm, 16);
		bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	}
	count(&counters.done);
}

/* The file of the socket that the thread's connect(2) is about. */
static __always_inline struct file *connecting_file(struct task_struct *task)
{
	const struct pt_regs *regs = (void *)bpf_task_pt_regs((struct task_struct *)bpf_get_current_task_btf());
	struct file **files = BPF_CORE_READ(task, files, fdt, fd), *file = NULL;
	__u32 number;

#if defined(__TARGET_ARCH_x86)
	number = BPF_CORE_READ(regs, di);
#elif defined(__TARGET_ARCH_arm64)
	number = BPF_CORE_READ(regs, regs[0]);
#endif
	if (number >= BPF_CORE_READ(task, files, fdt, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + number);
	return file;
}

/* A lookup for `daddr` found nothing: note it, where it is this thread's connect(2) that asked. */
static __always_inline void noroute_note(const __u8 *daddr, __be16 dport, __u8 family, __u16 error)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct noroute found = {}, *before;
	struct socket *socket;
	struct file *file;

	if (stopping)
		return;
	read_asked(&found.flow);
	if (!found.flow.asked_port || found.flow.asked_port != bpf_ntohs(dport) ||
	    *(__u64 *)found.flow.asked_address != *(const __u64 *)daddr ||
	    *(__u64 *)(found.flow.asked_address + 8) != *(const __u64 *)(daddr + 8))
		return;
	file = connecting_file(task);
	socket = BPF_CORE_READ(file, private_data);
	found.netns = BPF_CORE_READ(socket, sk, __sk_common.skc_net.net, ns.inum); /* which need not be the task's */
	if (scope_netns && found.netns != scope_netns)
		return;
	found.inode = BPF_CORE_READ(file, f_inode, i_ino);
	found.last = bpf_ktime_get_boot_ns();
	before = bpf_map_lookup_elem(&noroutes, &thread);
	if (before && before->inode == found.inode && before->flow.asked_port == found.flow.asked_port &&
	    found.last - before->last < NOROUTE_TOGETHER) {
		before->last = found.last;
		before->error = error;
		return;
	}
	if (before)
		noroute_report(before);
	found.family = family;
	found.error = error;
	found.flow.id = new_instance_id(found.last);
	found.flow.start_time = found.last;
	name_owner(&found.flow, BPF_CORE_READ(task, group_leader), thread >> 32, WEIR_OWNER_CONNECT,
		   bpf_get_current_cgroup_id(), (__u32)bpf_get_current_uid_gid());
	if (is_self())
		found.flow.flags |= WEIR_SELF;
	bpf_map_update_elem(&noroutes, &thread, &found, BPF_ANY);
	if (!before)
		__sync_fetch_and_add(&noroutes_waiting, 1);
}

/* The thread's connect goes on: another table had a route. */
static __always_inline void noroute_take_back(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	if (noroutes_waiting && !bpf_map_delete_elem(&noroutes, &thread))
		__sync_fetch_and_sub(&noroutes_waiting, 1);
}

SEC("raw_tp/fib_table_lookup")
int weir_fib4(struct bpf_raw_tracepoint_args *ctx)
{
	const struct flowi4 *flow = (const void *)ctx->args[1];
	int error = ctx->args[3];
	__u8 daddr[16] __attribute__((aligned(8))) = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (error >= 0 || BPF_CORE_READ(flow, __fl_common.flowic_proto) != IPPROTO_TCP)
		return 0;
	bpf_core_read(daddr + 12, 4, &flow->daddr);
	noroute_note(daddr, BPF_CORE_READ(flow, uli.ports.dport), 4, error == -EAGAIN ? ENETUNREACH : -error);
	return 0;
}

SEC("raw_tp/fib6_table_lookup")
int weir_fib6(struct bpf_raw_tracepoint_args *ctx)
{
	const struct net *net = (const void *)ctx->args[0];
	const struct fib6_result *result = (const void *)ctx->args[1];
	const struct flowi6 *flow = (const void *)ctx->args[3];
	__u8 daddr[16] __attribute__((aligned(8)));
	__u8 type = BPF_CORE_READ(result, fib6_type);
	__u16 error = ENETUNREACH;

	if (BPF_CORE_READ(flow, __fl_common.flowic_proto) != IPPROTO_TCP)
		return 0;
	if (BPF_CORE_READ(result, f6i) != BPF_CORE_READ(net, ipv6.fib6_null_entry)) {
		if (!(BPF_CORE_READ(result, fib6_flags) & RTF_REJECT))
			return 0;
		error = type == RTN_BLACKHOLE ? EINVAL : type == RTN_UNREACHABLE ? EHOSTUNREACH :
			type == RTN_PROHIBIT ? EACCES : ENETUNREACH;
	}
	bpf_core_read(daddr, 16, &flow->daddr);
	noroute_note(daddr, BPF_CORE_READ(flow, uli.ports.dport), 6, error);
	return 0;
}

SEC("iter/bpf_map_elem")
int weir_noroute(struct bpf_iter__bpf_map_elem *ctx)
{
	const __u64 *key = ctx->key;
	const struct noroute *value = ctx->value;
	struct noroute found;
	__u64 thread;

	if (!key || !value)
		return 0;
	if (!stopping && bpf_ktime_get_boot_ns() - value->flow.start_time < NOROUTE_SETTLED)
		return 0;
	thread = *key;
	found = *value;
	if (bpf_map_delete_elem(&noroutes, &thread))
		return 0;
	__sync_fetch_and_sub(&noroutes_waiting, 1);
	noroute_report(&found);
	return 0;
}

#endif
