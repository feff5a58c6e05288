/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A system call under way to the peer of its datagram. The tracepoints do not have it: for a connected socket it stands in
 * the socket, else in the memory of the caller, where the call's registers point to.
 */
#ifndef WEIR_FLOW_UDP_PEER_H
#define WEIR_FLOW_UDP_PEER_H

#include "flow_udp_state.h"

#if defined(__TARGET_ARCH_x86)
enum { CALL_SENDTO = 44, CALL_RECVFROM = 45, CALL_SENDMSG = 46, CALL_RECVMSG = 47, CALL_RECVMMSG = 299, CALL_SENDMMSG = 307 };
#elif defined(__TARGET_ARCH_arm64)
enum { CALL_SENDTO = 206, CALL_RECVFROM = 207, CALL_SENDMSG = 211, CALL_RECVMSG = 212, CALL_RECVMMSG = 243, CALL_SENDMMSG = 269 };
#endif

/* What a call was given. 32-bit tasks and io_uring have none of these numbers: their peer stays unknown. */
struct call {
	long number;
	__u64 fd, vector, fifth, sixth;
	__u32 length; /* of the vector */
};

struct user_message { /* struct user_msghdr, 64 bit */
	__u64 name;
	__u32 name_length;
	__u32 reserved;
	__u64 parts;
	__u64 part_count;
	__u64 control;
	__u64 control_length;
};
#define MESSAGE_STEP 64 /* struct mmsghdr */

struct user_control {
	__u64 length;
	__u32 level;
	__u32 type;
	__u16 segment;
};
#define SOL_UDP 17
#define UDP_SEGMENT 103
#define CONTROLS 6 /* looked at, at most */

static __always_inline void read_call(struct call *call)
{
	const struct pt_regs *regs = (void *)bpf_task_pt_regs((struct task_struct *)bpf_get_current_task_btf());

#if defined(__TARGET_ARCH_x86)
	call->number = (long)BPF_CORE_READ(regs, orig_ax);
	call->fd = BPF_CORE_READ(regs, di);
	call->vector = BPF_CORE_READ(regs, si);
	call->length = BPF_CORE_READ(regs, dx);
	call->fifth = BPF_CORE_READ(regs, r8);
	call->sixth = BPF_CORE_READ(regs, r9);
#elif defined(__TARGET_ARCH_arm64)
	call->number = BPF_CORE_READ(regs, syscallno);
	call->fd = BPF_CORE_READ(regs, regs[0]);
	call->vector = BPF_CORE_READ(regs, regs[1]);
	call->length = BPF_CORE_READ(regs, regs[2]);
	call->fifth = BPF_CORE_READ(regs, regs[4]);
	call->sixth = BPF_CORE_READ(regs, regs[5]);
#endif
}

/*
 * io_uring finishes its own sends and receives at the end of whatever system call its thread is in: there the registers
 * belong to another socket. So a thread that uses it must be in a call on this very socket.
 */
static __always_inline bool is_call_on(const struct call *call, const struct sock *sk)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file **files, *file = NULL;

	if (!bpf_core_field_exists(task->io_uring) || !BPF_CORE_READ(task, io_uring))
		return true;
	if ((__u32)call->fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return false;
	files = BPF_CORE_READ(task, files, fdt, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), files + (__u32)call->fd) || !file)
		return false;
	/* file->private_data of a socket is its struct socket; of another file it is never equal. */
	return BPF_CORE_READ(file, private_data) == (void *)BPF_CORE_READ(sk, sk_socket);
}

static __always_inline void map_v4(__u8 *address, __u32 v4)
{
	__builtin_memset(address, 0, 10);
	address[10] = address[11] = 0xff;
	__builtin_memcpy(address + 12, &v4, 4);
}

/* From here on `sk` is a tracepoint's argument: its fields are read by plain loads, which cost a tenth of a probe read. */
static __always_inline bool is_udp_in_scope(const struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_UDP && sk->sk_type == SOCK_DGRAM &&
	       (sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6) &&
	       (!scope_netns || sk->__sk_common.skc_net.net->ns.inum == scope_netns);
}

static __always_inline void read_end(const struct sock *sk, struct udp_end *end)
{
	end->family = sk->__sk_common.skc_family;
	end->netns = sk->__sk_common.skc_net.net->ns.inum;
	end->local_port = sk->__sk_common.skc_num;
	if (end->family == AF_INET6)
		bpf_core_read(end->local_address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	else
		map_v4(end->local_address, sk->__sk_common.skc_rcv_saddr);
}

static __always_inline bool connected_peer(const struct sock *sk, struct udp_key *peer)
{
	__u16 port = sk->__sk_common.skc_dport;

	if (!port)
		return false;
	peer->peer_port = bpf_ntohs(port);
	if (sk->__sk_common.skc_family == AF_INET6)
		bpf_core_read(peer->peer_address, 16, &sk->__sk_common.skc_v6_daddr);
	else
		map_v4(peer->peer_address, sk->__sk_common.skc_daddr);
	return true;
}

/* A sockaddr in user memory. */
static __always_inline bool named_peer(__u64 name, __u32 length, __u8 family, struct udp_key *peer)
{
	struct { __u16 family; __be16 port; __u32 v4; } head = {};

	if (!name || length < 16 || bpf_probe_read_user(&head, sizeof(head), (void *)name))
		return false;
	if (head.family == AF_INET || (!head.family && family == AF_INET))
		map_v4(peer->peer_address, head.v4);
	else if (head.family != AF_INET6 || length < 24 ||
		 bpf_probe_read_user(peer->peer_address, 16, (void *)(name + 8)))
		return false;
	peer->peer_port = bpf_ntohs(head.port);
	return true;
}

/* Sent to "any" means to this host: the kernel puts the socket's own address in its place, or the loopback. */
static __always_inline void resolve_any(struct udp_key *peer, const struct udp_end *end)
{
	__u64 *address = (__u64 *)peer->peer_address;
	__u32 own;

	if (address[0])
		return;
	if (!address[1]) {
		peer->peer_address[15] = 1;
	} else if (*(__u32 *)(peer->peer_address + 8) == bpf_htonl(0xffff) && !*(__u32 *)(peer->peer_address + 12)) {
		own = *(__u32 *)(end->local_address + 12);
		if (!own || *(__u32 *)(end->local_address + 8) != bpf_htonl(0xffff))
			own = bpf_htonl(0x7f000001);
		*(__u32 *)(peer->peer_address + 12) = own;
	}
}

/* The size of each datagram of this message, if the message asks for several: UDP_SEGMENT among its control messages. */
static __always_inline __u32 asked_segment(const struct user_message *message)
{
	__u64 at = 0;

	for (int i = 0; i < CONTROLS; i++) {
		struct user_control control = {};

		if (at + 18 > message->control_length ||
		    bpf_probe_read_user(&control, 18, (void *)(message->control + at)))
			return 0;
		if (control.level == SOL_UDP && control.type == UDP_SEGMENT)
			return control.segment;
		if (control.length < 16 || control.length > 4096)
			return 0;
		at += (control.length + 7) & ~7ULL;
	}
	return 0;
}

#endif
