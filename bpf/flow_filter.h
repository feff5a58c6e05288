/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is not to be reported: `exclude` and `include` of the configuration, decided for each record before it is made.
 *
 * A filter matches where each of its lists that is not empty does; a list matches where one of its entries does. The
 * tables are constants, written before load: none may be changed while Weir runs, and without filters the verifier
 * removes all of this.
 */
#ifndef WEIR_FLOW_FILTER_H
#define WEIR_FLOW_FILTER_H

#include "flow_state.h"

#define WEIR_FILTERS 64
#define WEIR_CGROUP_LEVELS 16

/* Which of the two filters: as an entry's own lists, and as the verdict. */
enum weir_filter { WEIR_EXCLUDE = 1, WEIR_INCLUDE = 2 };

struct weir_filters {
	__u64 cidr_high[WEIR_FILTERS]; /* addresses and masks as they stand in memory; the longest prefix first */
	__u64 cidr_low[WEIR_FILTERS];
	__u64 mask_high[WEIR_FILTERS];
	__u64 mask_low[WEIR_FILTERS];
	__u64 executables[WEIR_FILTERS]; /* hashes of names */
	__u64 comms[WEIR_FILTERS];	 /* of the same, as a comm holds them */
	__u64 cgroups[WEIR_FILTERS];	 /* ids */
	__u16 ports[WEIR_FILTERS];
	__u8 cidr_filters[WEIR_FILTERS]; /* enum weir_filter, of each entry */
	__u8 executable_filters[WEIR_FILTERS];
	__u8 cgroup_filters[WEIR_FILTERS];
	__u8 port_filters[WEIR_FILTERS];
	__u32 cidr_count;
	__u32 executable_count;
	__u32 cgroup_count;
	__u32 port_count;
	__u8 by_cidr; /* the filters that have such a list */
	__u8 by_executable;
	__u8 by_cgroup;
	__u8 by_port;
	__u8 by_direction;
	__u8 inbound; /* the filters that list it */
	__u8 outbound;
	__u8 any; /* the filters that there are */
};

const volatile struct weir_filters filters = {};

/* Mapped by user space: events that were not reported. */
struct weir_filtered {
	__u64 exclude;
	__u64 include;
} filtered = {};

/*
 * All ones if both are equal, else 0: without a branch, so that the verifier walks a table once and not once for each way
 * through it. For the same reason the walks are global functions, which it checks once and not once for each call.
 */
static __always_inline __u64 same(__u64 one, __u64 other)
{
	__u64 differs = one ^ other;

	asm volatile("" : "+r"(differs)); /* the compiler would make a branch of it */
	return ((differs | -differs) >> 63) - 1;
}

static __always_inline __u64 hash_name(const __u64 *words)
{
	__u64 hash = 0x9e3779b97f4a7c15ULL;
	int i;

	for (i = 0; i < WEIR_NAME / 8; i++) {
		hash = (hash ^ words[i]) * 0xbf58476d1ce4e5b9ULL;
		hash ^= hash >> 32;
	}
	return hash;
}

static __always_inline struct kernfs_node *above(struct kernfs_node *node)
{
	if (bpf_core_field_exists(struct kernfs_node___rcu, __parent))
		return BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
	return BPF_CORE_READ((struct kernfs_node___parent *)node, parent);
}

/* The filters that list an executable, by the hash of its name or, where that is not known, of the comm. */
__noinline __u32 listed_name(__u64 hash, __u32 known)
{
	__u64 found = 0, by_comm = same(known, 0);
	__u32 i;

	for (i = 0; i < filters.executable_count && i < WEIR_FILTERS; i++)
		found |= filters.executable_filters[i] &
			 ((same(hash, filters.executables[i]) & ~by_comm) | (same(hash, filters.comms[i]) & by_comm));
	return found;
}

/* The filters that list a cgroup. */
__noinline __u32 listed_cgroup(__u64 id)
{
	__u64 found = 0;
	__u32 i;

	for (i = 0; i < filters.cgroup_count && i < WEIR_FILTERS; i++)
		found |= filters.cgroup_filters[i] & same(id, filters.cgroups[i]);
	return found;
}

/* The filters that list one of two ports; none is given as over 65535. */
__noinline __u32 listed_port(__u32 one, __u32 other)
{
	__u64 found = 0;
	__u32 i;

	for (i = 0; i < filters.port_count && i < WEIR_FILTERS; i++)
		found |= filters.port_filters[i] & (same(one, filters.ports[i]) | same(other, filters.ports[i]));
	return found;
}

/* The filter that lists the smallest network that an address is in. */
__noinline __u32 listed_address(__u64 high, __u64 low)
{
	__u64 found = 0, open = ~0ULL;
	__u32 i;

	for (i = 0; i < filters.cidr_count && i < WEIR_FILTERS; i++) {
		__u64 hit = same(high & filters.mask_high[i], filters.cidr_high[i]) &
			    same(low & filters.mask_low[i], filters.cidr_low[i]) & open;

		found |= filters.cidr_filters[i] & hit;
		open &= ~hit;
	}
	return found;
}

/* The filters that list a process: by its executable in the lower two bits, by its cgroup or one above in the next two. */
static __noinline __u8 listed_owner(struct task_struct *leader)
{
	__u32 by_name = 0, by_cgroup = 0, level;

	if (filters.by_executable) {
		__u64 name[WEIR_NAME / 8] = {};
		bool known = bpf_probe_read_kernel_str(name, sizeof(name),
						       BPF_CORE_READ(leader, mm, exe_file, f_path.dentry, d_name.name)) > 1;

		if (!known) {
			__builtin_memset(name, 0, sizeof(name));
			bpf_core_read(name, 16, &leader->comm);
		}
		by_name = listed_name(hash_name(name), known);
	}
	if (filters.by_cgroup) {
		struct kernfs_node *node = BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn);

		for (level = 0; level < WEIR_CGROUP_LEVELS && node; level++) {
			by_cgroup |= listed_cgroup(BPF_CORE_READ(node, id));
			node = above(node);
		}
	}
	return (by_name & 3) | (by_cgroup & 3) << 2;
}

/* Which filter keeps a flow from being reported; 0: none. `peer` is its address, the ports are in host order. */
static __noinline __u8 filter_verdict(const struct flow *flow, const __u64 *peer, __u32 local_port, __u32 peer_port)
{
	__u32 matched = WEIR_EXCLUDE | WEIR_INCLUDE, role = flow->role, listed = flow->listed, found;

	if (filters.by_direction) {
		found = role == WEIR_ROLE_SERVER ? filters.inbound : role == WEIR_ROLE_CLIENT ? filters.outbound : 0;
		matched &= found | ~filters.by_direction;
	}
	if (filters.by_executable)
		matched &= listed | ~filters.by_executable;
	if (filters.by_cgroup)
		matched &= listed >> 2 | ~filters.by_cgroup;
	if (filters.by_port) { /* the server's; of a flow whose sides are not known, either */
		found = listed_port(role == WEIR_ROLE_CLIENT ? 1 << 16 : local_port,
				    role == WEIR_ROLE_SERVER ? 1 << 16 : peer_port);
		matched &= found | ~filters.by_port;
	}
	if (filters.by_cidr)
		matched &= listed_address(peer[0], peer[1]) | ~filters.by_cidr;
	if (filters.any & matched & WEIR_EXCLUDE)
		return WEIR_EXCLUDE;
	if (filters.any & ~matched & WEIR_INCLUDE)
		return WEIR_INCLUDE;
	return 0;
}

/* Whether a flow is not reported; an event that therefore does not leave is counted. */
static __always_inline bool filtered_out(const struct flow *flow, const void *peer, __u16 local_port, __u16 peer_port,
					 bool event)
{
	__u8 verdict;

	if (!filters.any)
		return false;
	verdict = filter_verdict(flow, peer, local_port, peer_port);
	if (verdict && event)
		count(verdict == WEIR_EXCLUDE ? &filtered.exclude : &filtered.include);
	return verdict;
}

#endif
