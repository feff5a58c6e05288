/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * UDP: every datagram that crosses a socket call to a flow by (socket, peer).
 *
 * Datagrams are counted where the socket's own calls return, so no packet and no other protocol pays for it. The two
 * tracepoints came with Linux 6.3. There is no hook where a UDP socket is closed: a flow ends when it is idle.
 */
#ifndef WEIR_FLOW_UDP_H
#define WEIR_FLOW_UDP_H

#include "flow_udp_count.h"
#include "flow_udp_peer.h"

#define MSG_PEEK 2
#define MSG_ERRQUEUE 0x2000
#define MESSAGES 1024 /* that one call takes at most: UIO_MAXIOV */
#define WANTED_STEP 100000000ULL

/* How many datagrams a send was, and whether that may be too few. */
static __always_inline __u32 sent(const struct sock *sk, __u32 bytes, __u32 segment)
{
	const struct udp_sock *udp = (const void *)sk;

	if (BPF_CORE_READ(udp, pending))
		return 0; /* MSG_MORE, UDP_CORK: it leaves with a later call */
	if (!segment)
		segment = BPF_CORE_READ(udp, gso_size);
	return segment && bytes > segment ? (bytes + segment - 1) / segment : 1;
}

static __always_inline bool coalesces(const struct sock *sk)
{
	const struct udp_sock *udp = (const void *)sk;

	if (bpf_core_field_exists(udp->udp_flags))
		return BPF_CORE_READ(udp, udp_flags) >> UDP_FLAGS_GRO_ENABLED & 1;
	return BPF_CORE_READ_BITFIELD_PROBED((const struct udp_sock___bits *)udp, gro_enabled);
}

/* A thread is first seen in a call for several messages: it is at its first message if the thread is younger than the hook. */
static __always_inline void begin_call(struct udp_call *call)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 since = udp_exits_since;

	call->receive_since = BPF_CORE_READ(task, start_boottime) > since ? since : 0;
}

/* Which message of a sendmmsg this is. Without the end of the call in sight it is told by its messages having come to an end. */
static __always_inline __u32 next_sent(const struct call *call, bool failed)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct udp_call fresh = {}, *known = bpf_map_lookup_elem(&udp_calls, &thread);
	__u32 index = 0;

	if (!known) {
		if (failed || call->length <= 1)
			return 0;
		begin_call(&fresh);
		fresh.send_vector = call->vector;
		fresh.send_index = 1;
		bpf_map_update_elem(&udp_calls, &thread, &fresh, BPF_ANY);
		return 0;
	}
	if (known->send_vector == call->vector)
		index = known->send_index;
	known->send_vector = call->vector;
	known->send_index = failed || index + 1 >= call->length || index + 1 >= MESSAGES ? 0 : index + 1;
	return index;
}

/* The message that a call sends its datagram with. */
static __always_inline bool read_message(const struct call *call, __u32 index, struct user_message *message)
{
	return !bpf_probe_read_user(message, sizeof(*message), (void *)(call->vector + MESSAGE_STEP * (__u64)index));
}

static __always_inline void remember_sent(const struct udp_key *key)
{
	struct udp_sent *last = bpf_map_lookup_elem(&udp_last, &key->cookie), fresh = {};
	__u64 now = bpf_ktime_get_boot_ns();

	if (last && is_same_peer(&last->peer, key)) {
		last->sent_at = now;
		return;
	}
	fresh.peer = *key;
	fresh.sent_at = now;
	if (last)
		fresh.guessed_at = last->guessed_at;
	if (bpf_map_update_elem(&udp_last, &key->cookie, &fresh, BPF_ANY))
		bpf_map_delete_elem(&udp_last, &key->cookie); /* better none than an earlier one */
}

SEC("tp_btf/sock_send_length")
int weir_udp_send(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int bytes = (int)ctx[1];
	struct udp_key key = {};
	struct udp_end end = {};
	struct call call = {};
	struct user_message message = {};
	struct datagrams d = { .sk = sk, .end = &end, .transmit = true };
	__u32 segment = 0, index = 0;
	bool named = false;

	if (!is_udp_in_scope(sk))
		return 0;
	read_call(&call);
	if (call.number == CALL_SENDMMSG)
		index = next_sent(&call, bytes < 0);
	if (bytes < 0)
		return 0;
	read_end(sk, &end);
	if ((call.number == CALL_SENDTO || call.number == CALL_SENDMSG || call.number == CALL_SENDMMSG) &&
	    is_call_on(&call, sk)) {
		if (call.number == CALL_SENDTO) {
			named = named_peer(call.fifth, call.sixth, end.family, &key);
		} else if (read_message(&call, index, &message)) {
			struct { __u64 base, length; } part = {};

			/* A message of another size is not the one: the call before has ended early. */
			if (call.number == CALL_SENDMMSG && message.part_count == 1 &&
			    !bpf_probe_read_user(&part, sizeof(part), (void *)message.parts) && part.length != bytes)
				message.name = 0;
			named = named_peer(message.name, message.name_length, end.family, &key);
			segment = asked_segment(&message);
		}
	}
	key.cookie = bpf_get_socket_cookie(sk);
	if (named) {
		resolve_any(&key, &end);
	} else if (!connected_peer(sk, &key)) {
		to_rest(&key, end.family);
	}
	if (named && !sk->__sk_common.skc_dport)
		remember_sent(&key);
	d.bytes = bytes;
	d.count = sent(sk, bytes, segment);
	on_datagrams(&key, &d);
	return 0;
}

/* Receiving. */

static __always_inline void finish_receive(const struct udp_pending *p, bool written)
{
	struct udp_key key = {};
	struct datagrams d = { .end = &p->end, .bytes = p->bytes, .count = 1, .young = p->young };
	struct udp_sent *last;

	if (!written || !named_peer(p->name, 24, p->end.family, &key)) {
		last = p->guessed ? bpf_map_lookup_elem(&udp_last, &p->cookie) : NULL;
		if (last) {
			key = p->guess;
			d.flags = WEIR_PEER_INFERRED;
			last->guessed_at = bpf_ktime_get_boot_ns();
		} else {
			to_rest(&key, p->end.family);
		}
	}
	key.cookie = p->cookie;
	if (p->coalesced)
		d.flags |= WEIR_PACKETS_LEAST;
	on_datagrams(&key, &d);
}

/* Which message of a recvmmsg this is; false where that is not certain. */
static __always_inline bool next_received(__u32 *index, __u64 since)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct udp_call fresh = {}, *known = bpf_map_lookup_elem(&udp_calls, &thread);

	*index = 0;
	if (!known) {
		begin_call(&fresh);
		fresh.receive_index = 1;
		bpf_map_update_elem(&udp_calls, &thread, &fresh, BPF_ANY);
		return fresh.receive_since == since;
	}
	*index = known->receive_index++;
	return known->receive_since == since;
}

/* Where the address of the sender will be written to: 0 if nowhere, or where it is not certain. */
static __always_inline __u64 name_to_be(const struct call *call, const struct sock *sk, __u64 since)
{
	struct user_message message = {};
	__u32 index = 0, room = 0;

	if (!is_call_on(call, sk))
		return 0;
	if (call->number == CALL_RECVFROM) {
		if (!call->fifth || bpf_probe_read_user(&room, sizeof(room), (void *)call->sixth))
			return 0;
		return room < (sk->__sk_common.skc_family == AF_INET6 ? 24 : 16) ? 0 : call->fifth;
	}
	if (call->number == CALL_RECVMMSG && since && !next_received(&index, since))
		return 0;
	if (!read_message(call, index, &message) ||
	    message.name_length < (sk->__sk_common.skc_family == AF_INET6 ? 24 : 16))
		return 0;
	return message.name;
}

SEC("tp_btf/sock_recv_length")
int weir_udp_receive(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int bytes = (int)ctx[1], flags = (int)ctx[2];
	struct udp_pending fresh = {}, *before;
	struct udp_key key = {};
	struct udp_sent *last;
	struct call call = {};
	__u64 thread, now, since;

	if (sk->sk_protocol == IPPROTO_MPTCP && bytes > 0 && !(flags & (MSG_PEEK | MSG_ERRQUEUE)))
		on_mptcp_use(sk, WEIR_OWNER_RECEIVE, false);
	if (!is_udp_in_scope(sk))
		return 0;
	since = udp_exits_since;
	thread = bpf_get_current_pid_tgid();
	before = bpf_map_lookup_elem(&udp_waiting, &thread);
	if (before) { /* the message before this one of a recvmmsg: its address is written now */
		fresh = *before;
		bpf_map_delete_elem(&udp_waiting, &thread);
		finish_receive(&fresh, fresh.since == since);
		__builtin_memset(&fresh, 0, sizeof(fresh));
	}
	/* A datagram of no bytes is one; a socket that is shut down returns 0 without one. */
	if (bytes < 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) || (!bytes && sk->sk_shutdown & RCV_SHUTDOWN))
		return 0;
	read_end(sk, &fresh.end);
	fresh.cookie = bpf_get_socket_cookie(sk);
	fresh.bytes = bytes;
	fresh.coalesced = coalesces(sk);
	if (connected_peer(sk, &fresh.guess)) {
		struct datagrams d = { .sk = sk, .end = &fresh.end, .bytes = bytes, .count = 1,
				       .flags = fresh.coalesced ? WEIR_PACKETS_LEAST : 0 };

		key = fresh.guess;
		key.cookie = fresh.cookie;
		on_datagrams(&key, &d);
		return 0;
	}
	fresh.young = is_young(sk);
	last = bpf_map_lookup_elem(&udp_last, &fresh.cookie);
	if (last) {
		fresh.guess = last->peer;
		fresh.guessed = 1;
	}
	read_call(&call);
	if (call.number == CALL_RECVFROM || call.number == CALL_RECVMSG || call.number == CALL_RECVMMSG)
		fresh.name = name_to_be(&call, sk, since);
	if (fresh.name) {
		now = bpf_ktime_get_boot_ns();
		if (now - udp_wanted > WANTED_STEP && !is_self())
			udp_wanted = now;
		fresh.since = since;
		if (since && !bpf_map_update_elem(&udp_waiting, &thread, &fresh, BPF_ANY))
			return 0;
	}
	finish_receive(&fresh, false);
	return 0;
}

/* Attached only while somebody asks who sent a datagram: it runs at the end of every system call of the host. */
SEC("tp_btf/sys_exit")
int weir_udp_exit(__u64 *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx[0];
	struct udp_pending copy, *waiting;
	struct udp_call *known;
	__u64 thread;
	long number;

#if defined(__TARGET_ARCH_x86)
	number = (long)regs->orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	number = regs->syscallno;
#endif
	if (number != CALL_RECVFROM && number != CALL_RECVMSG && number != CALL_RECVMMSG && number != CALL_SENDMMSG)
		return 0;
	thread = bpf_get_current_pid_tgid();
	if (number == CALL_RECVMMSG || number == CALL_SENDMMSG) {
		known = bpf_map_lookup_elem(&udp_calls, &thread);
		if (known && number == CALL_SENDMMSG)
			known->send_index = 0;
		if (known && number == CALL_RECVMMSG) {
			known->receive_index = 0;
			known->receive_since = udp_exits_since;
		}
	}
	waiting = bpf_map_lookup_elem(&udp_waiting, &thread);
	if (!waiting)
		return 0;
	copy = *waiting;
	bpf_map_delete_elem(&udp_waiting, &thread);
	finish_receive(&copy, !udp_exits_since || copy.since == udp_exits_since); /* 0: being detached */
	return 0;
}

#endif
