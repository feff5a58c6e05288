// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * TCP flows: one record when a connection ends (and, where asked for, when it starts), with the owner of the socket.
 *
 * What is known of an open socket lives in `flows`, keyed by its address; the byte counts stay where the kernel
 * keeps them, in tcp_sock, and are read when a record leaves. Raw tracepoints only: CAP_BPF and CAP_PERFMON suffice.
 */
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
	__u8 reserved;
	__u16 asked_port;
	__u16 reserved2;
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

static __always_inline void write_owner(const struct weir_owner_key *key, struct task_struct *leader)
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
	owner->cgroup_id = bpf_get_current_cgroup_id();
	owner->uid = (__u32)bpf_get_current_uid_gid();
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

/*
 * Take the current process as the owner. Only a user task may own a socket: kernel threads and idle tasks have no
 * mm, and what runs in softirq merely borrows whoever is on the CPU. `locked` hooks run under lock_sock in process
 * context and never so in softirq (which holds the spinlock only), so sk_lock.owned tells the two apart.
 */
static __always_inline void take_owner(struct sock *sk, struct flow *flow, __u8 rule, bool locked)
{
	struct task_struct *task, *leader;
	struct weir_owner_key key = {};

	if (flow->owner_rule)
		return;
	if (locked && !BPF_CORE_READ(sk, sk_lock.owned))
		return;
	task = (struct task_struct *)bpf_get_current_task();
	if (!BPF_CORE_READ(task, mm) || (BPF_CORE_READ(task, flags) & PF_KTHREAD))
		return;
	leader = BPF_CORE_READ(task, group_leader);
	key.start = BPF_CORE_READ(leader, start_boottime);
	key.pid = bpf_get_current_pid_tgid() >> 32;
	flow->owner_pid = key.pid;
	flow->owner_start = key.start;
	flow->cgroup_id = bpf_get_current_cgroup_id();
	bpf_core_read(flow->comm, sizeof(flow->comm), &leader->comm);
	flow->owner_rule = rule;
	write_owner(&key, leader);
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

static __always_inline void fill(struct weir_event *e, const struct sock *sk, const struct flow *flow, __u64 now)
{
	const struct tcp_sock *tp = (const void *)sk;

	e->version = WEIR_LAYOUT_VERSION;
	e->transport = IPPROTO_TCP;
	e->role = flow->role;
	e->old_state = 0;
	e->end_cause = 0;
	e->owner_rule = flow->owner_rule;
	e->flags = flow->flags;
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
	e->reserved = 0;
	e->counted_retransmits = flow->counted_retransmits;
	e->counted_transmit = flow->counted_transmit;
	e->counted_receive = flow->counted_receive;
	__builtin_memcpy(e->comm, flow->comm, 16);
}

static __always_inline void emit(const struct sock *sk, const struct flow *flow, __u8 kind, __u8 old_state, __u8 state,
				 __u8 cause, __u16 error, __u64 now)
{
	struct weir_event *e;

	if (flow->flags & WEIR_SELF) {
		count(&counters.filtered_self);
		return;
	}
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

static __always_inline struct flow *track(struct sock *sk, const struct flow *fresh)
{
	__u64 key = (__u64)sk;

	if (bpf_map_update_elem(&flows, &key, fresh, BPF_ANY)) {
		count(&counters.flows_full);
		return NULL;
	}
	return bpf_map_lookup_elem(&flows, &key);
}

/* A socket that is older than Weir (or that found the table full): counted from here on, reported since its birth. */
static __always_inline void adopt(const struct sock *sk, struct flow *flow, __u64 now)
{
	flow->id = new_instance_id(now);
	flow->flags = WEIR_ESTABLISHED | WEIR_COUNTED;
	flow->last_event = now;
	flow->counted_transmit = transmitted((const void *)sk);
	flow->counted_receive = received(sk);
	flow->counted_retransmits = BPF_CORE_READ((const struct tcp_sock *)sk, total_retrans);
}

static __always_inline void on_syn_sent(struct sock *sk)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_boot_ns();
	struct flow flow = {};

	if (stopping)
		return;
	if (bpf_map_lookup_elem(&flows, &key))
		count(&counters.replaced);
	flow.id = new_instance_id(now);
	flow.start_time = flow.last_event = now;
	flow.role = WEIR_ROLE_CLIENT;
	flow.flags = WEIR_START_SEEN;
	take_owner(sk, &flow, WEIR_OWNER_CONNECT, true);
	if (is_self())
		flow.flags |= WEIR_SELF;
	else
		read_asked(&flow);
	track(sk, &flow);
}

static __always_inline void on_established(struct sock *sk, int old)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_boot_ns();
	struct flow fresh = {}, *flow = NULL;
	struct endpoints ends = {};
	__u8 family, mark = 1;

	if (old != TCP_SYN_RECV)
		flow = bpf_map_lookup_elem(&flows, &key);
	else if ((flow = bpf_map_lookup_elem(&flows, &key)) && flow->role != WEIR_ROLE_CLIENT) {
		count(&counters.replaced); /* simultaneous open keeps its client */
		flow = NULL;
	}
	if (flow) {
		flow->established_time = now;
		flow->flags |= WEIR_ESTABLISHED;
		if (flow->flags & WEIR_SELF) {
			read_endpoints(sk, &family, ends.peer_address, ends.local_address);
			ends.peer_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
			ends.local_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
			bpf_map_update_elem(&self_peers, &ends, &mark, BPF_ANY);
		}
		emit_start(sk, flow, TCP_ESTABLISHED);
		return;
	}
	if (stopping)
		return;
	fresh.id = new_instance_id(now);
	fresh.flags = WEIR_ESTABLISHED;
	fresh.last_event = fresh.established_time = now;
	if (old == TCP_SYN_RECV) {
		fresh.role = WEIR_ROLE_SERVER;
		fresh.start_time = now;
		fresh.flags |= WEIR_START_SEEN;
		read_endpoints(sk, &family, ends.local_address, ends.peer_address);
		ends.local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
		ends.peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
		if (bpf_map_lookup_elem(&self_peers, &ends))
			fresh.flags |= WEIR_SELF;
	} else {
		fresh.role = WEIR_ROLE_CLIENT;
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
		adopt(sk, &flow, now);
		if (old == TCP_SYN_SENT) {
			flow.role = WEIR_ROLE_CLIENT;
			flow.flags &= ~WEIR_ESTABLISHED;
		}
	}
	/* No FIN and no error: the closer itself sends the RST, in its own context. */
	if (!error && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT))
		take_owner(sk, &flow, WEIR_OWNER_CLOSE, true);
	if (flow.flags & WEIR_SELF && flow.role == WEIR_ROLE_CLIENT) {
		struct endpoints ends = {};
		__u8 family;

		read_endpoints(sk, &family, ends.peer_address, ends.local_address);
		ends.peer_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
		ends.local_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
		bpf_map_delete_elem(&self_peers, &ends);
	}
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

		if (stopping)
			return;
		adopt(sk, &fresh, bpf_ktime_get_boot_ns());
		flow = track(sk, &fresh);
		if (!flow)
			return;
	}
	if (flow->owner_rule)
		return;
	take_owner(sk, flow, rule, locked);
	if (flow->owner_rule)
		emit_start(sk, flow, state);
}

SEC("raw_tp/inet_sock_set_state")
int weir_set_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int old = ctx->args[1], new = ctx->args[2];

	if (new != TCP_ESTABLISHED && new != TCP_SYN_SENT && new != TCP_FIN_WAIT1 && new != TCP_CLOSE &&
	    new != TCP_LAST_ACK)
		return 0;
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

	if ((int)ctx->args[1] <= 0 || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
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
	flow = *value;
	sk = (struct sock *)address;
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
	if (flow.flags & WEIR_SELF) {
		if (e.kind != WEIR_SAMPLE)
			count(&counters.filtered_self);
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
