/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The current task to the owner of a socket, and what is written down of it once. */
#ifndef WEIR_FLOW_OWNER_H
#define WEIR_FLOW_OWNER_H

#include "flow_state.h"
#include "flow_filter.h"

static __always_inline void read_cgroup_names(struct weir_owner *owner, struct task_struct *task)
{
	struct css_set *css = BPF_CORE_READ(task, cgroups);
	struct kernfs_node *node = BPF_CORE_READ(css, dfl_cgrp, kn), *up = NULL;
	const char *name;

	if (bpf_core_field_exists(struct kernfs_node___rcu, __parent))
		up = BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
	else
		up = BPF_CORE_READ((struct kernfs_node___parent *)node, parent);
	/* cgroup v1: the default hierarchy says nothing, the memory controller's does. */
	if (!up && bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
		struct cgroup_subsys_state *state = NULL;

		bpf_probe_read_kernel(&state, sizeof(state),
				      (void *)__builtin_preserve_access_index(&css->subsys) +
					      8 * bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
		node = BPF_CORE_READ(state, cgroup, kn);
		if (bpf_core_field_exists(struct kernfs_node___rcu, __parent))
			up = BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
		else
			up = BPF_CORE_READ((struct kernfs_node___parent *)node, parent);
	}
	name = BPF_CORE_READ(node, name);
	bpf_probe_read_kernel_str(owner->cgroup_name, sizeof(owner->cgroup_name), name);
	name = BPF_CORE_READ(up, name);
	bpf_probe_read_kernel_str(owner->cgroup_parent, sizeof(owner->cgroup_parent), name);
}

static __always_inline void write_owner(const struct weir_owner_key *key, struct task_struct *leader, __u64 cgroup_id,
					__u32 uid)
{
	__u32 zero = 0;
	struct weir_owner_key *newcomer;
	struct weir_owner *owner;
	struct pid *pid;
	struct upid last = {};
	unsigned int level;

	if (bpf_map_lookup_elem(&owners, key))
		return;
	owner = bpf_map_lookup_elem(&scratch, &zero);
	if (!owner)
		return;
	__builtin_memset(owner, 0, sizeof(*owner));
	owner->cgroup_id = cgroup_id;
	owner->uid = uid;
	pid = BPF_CORE_READ(leader, thread_pid);
	level = BPF_CORE_READ(pid, level);
	if (level < 32) /* MAX_PID_NS_LEVEL */
		bpf_probe_read_kernel(&last, sizeof(last),
				      (void *)__builtin_preserve_access_index(&pid->numbers) + level * sizeof(last));
	owner->vpid = last.nr;
	owner->pidns = BPF_CORE_READ(last.ns, ns.inum);
	bpf_core_read(owner->comm, sizeof(owner->comm), &leader->comm);
	bpf_probe_read_kernel_str(owner->executable, sizeof(owner->executable),
				  BPF_CORE_READ(leader, mm, exe_file, f_path.dentry, d_name.name));
	read_cgroup_names(owner, leader);
	if (bpf_map_update_elem(&owners, key, owner, BPF_ANY)) {
		count(&counters.owners_failed);
		return;
	}
	newcomer = bpf_ringbuf_reserve(&newcomers, sizeof(*newcomer), 0);
	if (!newcomer)
		return;
	*newcomer = *key;
	bpf_ringbuf_submit(newcomer, 0);
}

static __always_inline void name_owner(struct flow *flow, struct task_struct *leader, __u32 pid, __u8 rule,
				       __u64 cgroup_id, __u32 uid)
{
	struct weir_owner_key key = {};

	key.start = BPF_CORE_READ(leader, start_boottime);
	key.pid = pid | BPF_CORE_READ(leader, self_exec_id) << WEIR_PID_BITS;
	flow->owner_pid = key.pid;
	flow->owner_start = key.start;
	flow->cgroup_id = cgroup_id;
	bpf_core_read(flow->comm, sizeof(flow->comm), &leader->comm);
	flow->owner_rule = rule;
	if (filters.by_executable || filters.by_cgroup)
		flow->listed = listed_owner(leader);
	write_owner(&key, leader, cgroup_id, uid);
}

/*
 * Take the current process as the owner. Only a user task may own a socket: kernel threads and idle tasks have no
 * mm, and what runs in softirq merely borrows whoever is on the CPU. `locked` hooks run under lock_sock in process
 * context and never so in softirq (which holds the spinlock only), so sk_lock.owned tells the two apart.
 */
static __always_inline void take_owner(struct sock *sk, struct flow *flow, __u8 rule, bool locked)
{
	struct task_struct *task;
	__u32 flags;

	if (flow->owner_rule)
		return;
	if (locked && !BPF_CORE_READ(sk, sk_lock.owned))
		return;
	task = (struct task_struct *)bpf_get_current_task();
	flags = BPF_CORE_READ(task, flags);
	/* A process that exits gives up its memory before its files: then the lock says that it is its own doing. */
	if (flags & PF_KTHREAD || (!BPF_CORE_READ(task, mm) && !(locked && flags & PF_EXITING)))
		return;
	name_owner(flow, BPF_CORE_READ(task, group_leader), bpf_get_current_pid_tgid() >> 32, rule,
		   bpf_get_current_cgroup_id(), (__u32)bpf_get_current_uid_gid());
}

static __always_inline bool is_self(void)
{
	struct bpf_pidns_info info = {};

	if (!self_pid)
		return false;
	if (bpf_get_ns_current_pid_tgid(self_pidns_dev, self_pidns_ino, &info, sizeof(info)))
		return false;
	return info.tgid == self_pid;
}

/* The address that the process asked connect(2) for: what a socket-level load balancer replaced. */
static __always_inline void read_asked(struct flow *flow)
{
	struct { __u16 family; __be16 port; __u8 rest[24]; } asked = {};
	const struct pt_regs *regs;
	const void *address = NULL;

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return;
	regs = (void *)bpf_task_pt_regs((struct task_struct *)bpf_get_current_task_btf());
#if defined(__TARGET_ARCH_x86)
	if (BPF_CORE_READ(regs, orig_ax) != 42) /* connect */
		return;
	address = (const void *)BPF_CORE_READ(regs, si);
#elif defined(__TARGET_ARCH_arm64)
	if (BPF_CORE_READ(regs, syscallno) != 203) /* connect */
		return;
	address = (const void *)BPF_CORE_READ(regs, regs[1]);
#endif
	if (bpf_probe_read_user(&asked, 8, address))
		return;
	if (asked.family == AF_INET) {
		flow->asked_address[10] = flow->asked_address[11] = 0xff;
		__builtin_memcpy(flow->asked_address + 12, asked.rest, 4);
	} else if (asked.family == AF_INET6) {
		if (bpf_probe_read_user(&asked, sizeof(asked), address))
			return;
		__builtin_memcpy(flow->asked_address, asked.rest + 4, 16);
	} else {
		return;
	}
	flow->asked_port = bpf_ntohs(asked.port);
}

#endif
