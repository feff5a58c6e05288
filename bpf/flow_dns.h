/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * DNS: what a socket in scope sends to or receives from a DNS port, as the process has it in its memory. These programs are
 * loaded only where names are asked for. Port, scope and peer are known before the first byte of a message is read.
 *
 * Who sent a datagram to a socket that is not connected is not known here: there a message is taken only if it answers, by
 * its id, a query that this socket sent to a DNS port.
 */
#ifndef WEIR_FLOW_DNS_H
#define WEIR_FLOW_DNS_H

#include "weir_dns.h"
#include "flow_udp.h"

#if defined(__TARGET_ARCH_x86)
enum { CALL_READ = 0, CALL_WRITE = 1, CALL_READV = 19, CALL_WRITEV = 20 };
#elif defined(__TARGET_ARCH_arm64)
enum { CALL_READ = 63, CALL_WRITE = 64, CALL_READV = 65, CALL_WRITEV = 66 };
#endif

#define DNS_PORTS 8
#define DNS_PIECES 4   /* of a message in memory; glibc sends by TCP in four */
#define DNS_TRUNC 0x20 /* MSG_TRUNC */
#define DNS_SOCK_STREAM 1
#define DNS_RESPONSE 0x80
#define DNS_FRESH 10000000000ULL /* ns; as long as a lookup waits for its answer (receiver/dns/lookups.py) */

const volatile __u16 dns_ports[DNS_PORTS] = {};
__u64 dns_lost = 0;   /* messages that found no room in the ring */
__u64 dns_unread = 0; /* messages whose bytes could not be found: io_uring, recvmmsg of several, sendfile */

struct weir_dns *unused_dns __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} dns_messages SEC(".maps");

/* A query of a socket that is not connected, and whom it went to. */
struct dns_query {
	__u64 cookie;
	__u16 id;
	__u16 reserved[3];
};
struct dns_asked {
	struct udp_key peer; /* the first of them */
	__u64 last;
	__u64 several; /* other servers were asked the same */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct dns_query);
	__type(value, struct dns_asked);
} dns_asked SEC(".maps");

struct dns_position {
	__u64 vector;
	__u64 index;
};
/* By thread: which message of a sendmmsg is the next. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct dns_position);
} dns_calls SEC(".maps");

struct dns_bytes {
	__u8 data[2 * WEIR_DNS_DATA]; /* for the verifier, which bounds offset and length apart */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2); /* received, sent */
	__type(key, __u32);
	__type(value, struct dns_bytes);
} dns_scratch SEC(".maps");

struct dns_piece {
	__u64 base, length;
};
/* Where a message stands in the caller's memory. */
struct dns_place {
	struct dns_piece first;
	__u64 pieces; /* 0: there is only the first */
	__u64 count;
};

/* The verifier forgets what C has compared; these values are below the bound already. */
#define DNS_BOUND(value) asm volatile("%0 &= 511" : "+r"(value))

static __always_inline bool is_dns_port(__u16 port)
{
	bool found = false;

#pragma unroll
	for (int i = 0; i < DNS_PORTS; i++)
		found |= port && dns_ports[i] == port;
	return found;
}

static __always_inline bool may_talk_dns(const struct sock *sk)
{
	__u16 protocol = sk->sk_protocol, type = sk->sk_type, family = sk->__sk_common.skc_family;

	return ((protocol == IPPROTO_UDP && type == SOCK_DGRAM) || (protocol == IPPROTO_TCP && type == DNS_SOCK_STREAM)) &&
	       (family == AF_INET || family == AF_INET6) &&
	       (!scope_netns || sk->__sk_common.skc_net.net->ns.inum == scope_netns);
}

static __always_inline __u32 dns_next_sent(const struct call *call)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct dns_position fresh = {}, *known = bpf_map_lookup_elem(&dns_calls, &thread);
	__u32 index = known && known->vector == call->vector ? known->index : 0;

	fresh.vector = call->vector;
	fresh.index = index + 1 >= call->length || index >= 1023 ? 0 : index + 1;
	bpf_map_update_elem(&dns_calls, &thread, &fresh, BPF_ANY);
	return index;
}

/* Where the message of this call stands; `message` has its header where there is one. */
static __always_inline bool dns_place_of(const struct call *call, struct dns_place *place, struct user_message *message)
{
	__u32 index = 0;

	switch (call->number) {
	case CALL_SENDTO:
	case CALL_RECVFROM:
	case CALL_READ:
	case CALL_WRITE:
		place->first.base = call->vector;
		place->first.length = call->length;
		place->count = 1;
		return true;
	case CALL_READV:
	case CALL_WRITEV:
		place->pieces = call->vector;
		place->count = call->length;
		break;
	case CALL_RECVMMSG:
		if (call->length != 1)
			return false;
		goto header;
	case CALL_SENDMMSG:
		index = dns_next_sent(call);
		goto header;
	case CALL_SENDMSG:
	case CALL_RECVMSG:
	header:
		if (!read_message(call, index, message))
			return false;
		place->pieces = message->parts;
		place->count = message->part_count;
		break;
	default:
		return false;
	}
	return place->count && !bpf_probe_read_user(&place->first, sizeof(place->first), (void *)place->pieces);
}

static __always_inline __u32 dns_copy(struct dns_bytes *to, const struct dns_place *place, __u32 bytes)
{
	__u32 left = bytes < WEIR_DNS_DATA - 1 ? bytes : WEIR_DNS_DATA - 1, at = 0;
	struct dns_piece piece = place->first;

	for (int i = 0; i < DNS_PIECES; i++) {
		__u32 length = piece.length < left ? piece.length : left;

		DNS_BOUND(length);
		DNS_BOUND(at);
		if (bpf_probe_read_user(to->data + at, length, (void *)piece.base))
			break;
		at += length;
		left -= length;
		if (!left || !place->pieces || i + 1 >= place->count ||
		    bpf_probe_read_user(&piece, sizeof(piece), (void *)(place->pieces + sizeof(piece) * (i + 1))))
			break;
	}
	return at;
}

/* A query that leaves: whoever answers it is its server. Where several are asked the same, all of it is one with the first. */
static __always_inline void dns_remember(__u64 cookie, struct udp_key *server, const __u8 *head, __u8 *flags)
{
	struct dns_query query = { .cookie = cookie };
	struct dns_asked fresh = { .peer = *server, .last = bpf_ktime_get_boot_ns() }, *known;

	if (head[2] & DNS_RESPONSE)
		return;
	query.id = head[0] << 8 | head[1];
	known = bpf_map_lookup_elem(&dns_asked, &query);
	if (!known || fresh.last - known->last > DNS_FRESH) {
		bpf_map_update_elem(&dns_asked, &query, &fresh, BPF_ANY);
		return;
	}
	known->last = fresh.last;
	if (is_same_peer(&known->peer, server))
		return;
	known->several = 1;
	*flags |= WEIR_DNS_SEVERAL;
	*server = known->peer;
}

/* Whether what begins with `head` answers a query of this socket; then its server. */
static __always_inline bool dns_answers(__u64 cookie, const __u8 *head, struct udp_key *server, __u8 *flags)
{
	struct dns_query query = { .cookie = cookie };
	struct dns_asked *known;

	if (!(head[2] & DNS_RESPONSE))
		return false;
	query.id = head[0] << 8 | head[1];
	known = bpf_map_lookup_elem(&dns_asked, &query);
	if (!known || bpf_ktime_get_boot_ns() - known->last > DNS_FRESH)
		return false;
	*server = known->peer;
	if (known->several)
		*flags |= WEIR_DNS_SEVERAL;
	return true;
}

static __always_inline void dns_emit(struct sock *sk, const struct udp_end *end, const struct udp_key *peer, __u32 bytes,
				     const struct dns_bytes *from, __u32 captured, __u8 flags)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct flow owner = {};
	struct weir_dns *e;

	name_owner(&owner, BPF_CORE_READ(task, group_leader), bpf_get_current_pid_tgid() >> 32, WEIR_OWNER_SEND,
		   bpf_get_current_cgroup_id(), (__u32)bpf_get_current_uid_gid());
	e = bpf_ringbuf_reserve(&dns_messages, sizeof(*e), 0);
	if (!e) {
		count(&dns_lost);
		return;
	}
	e->version = WEIR_DNS_VERSION;
	e->transport = sk->sk_protocol == IPPROTO_TCP ? IPPROTO_TCP : IPPROTO_UDP;
	e->flags = flags;
	e->family = end->family == AF_INET6 ? 6 : 4;
	e->local_port = end->local_port;
	e->peer_port = peer->peer_port;
	e->netns = end->netns;
	e->owner_pid = owner.owner_pid;
	e->owner_start = owner.owner_start;
	e->cgroup_id = owner.cgroup_id;
	e->cookie = peer->cookie;
	e->time = bpf_ktime_get_boot_ns();
	e->size = bytes;
	e->captured = captured;
	e->reserved = 0;
	__builtin_memcpy(e->local_address, end->local_address, 16);
	__builtin_memcpy(e->peer_address, peer->peer_address, 16);
	__builtin_memcpy(e->comm, owner.comm, 16);
	DNS_BOUND(captured);
	bpf_probe_read_kernel(e->data, captured, from->data);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

static __always_inline int on_dns(struct sock *sk, int bytes, bool transmit)
{
	struct dns_place place = {};
	struct user_message message = {};
	struct udp_key peer = {};
	struct udp_end end = {};
	struct call call = {};
	struct dns_bytes *scratch;
	__u32 which = transmit, captured;
	__u8 head[4] = {}, flags = transmit ? WEIR_DNS_TRANSMIT : 0;
	bool tcp, connected, local;

	if (bytes <= 0 || stopping || !may_talk_dns(sk))
		return 0;
	tcp = sk->sk_protocol == IPPROTO_TCP;
	local = is_dns_port(sk->__sk_common.skc_num);
	connected = connected_peer(sk, &peer);
	if (!local && (connected ? !is_dns_port(peer.peer_port) : tcp))
		return 0;
	if (is_self())
		return 0;
	read_call(&call);
	if (!is_call_on(&call, sk) || !dns_place_of(&call, &place, &message) ||
	    /* A message of another size is not the one: the call before has ended early. */
	    (call.number == CALL_SENDMMSG && place.count == 1 && place.first.length != bytes)) {
		if (local || connected)
			count(&dns_unread);
		return 0;
	}
	read_end(sk, &end);
	peer.cookie = bpf_get_socket_cookie(sk);
	if (!connected && transmit) {
		if (!(call.number == CALL_SENDTO ? named_peer(call.fifth, call.sixth, end.family, &peer) :
						   named_peer(message.name, message.name_length, end.family, &peer)))
			return 0;
		if (!local && !is_dns_port(peer.peer_port))
			return 0;
		resolve_any(&peer, &end);
	}
	if (!connected && !local) {
		if (place.first.length < sizeof(head) || bytes < (int)sizeof(head) ||
		    bpf_probe_read_user(head, sizeof(head), (void *)place.first.base))
			return 0;
		if (transmit)
			dns_remember(peer.cookie, &peer, head, &flags);
		else if (!dns_answers(peer.cookie, head, &peer, &flags))
			return 0;
		peer.cookie = bpf_get_socket_cookie(sk);
	}
	if (tcp ? is_self_peer(sk) : is_udp_self_peer(&peer, &end, bpf_ktime_get_boot_ns()))
		flags |= WEIR_DNS_SELF;
	scratch = bpf_map_lookup_elem(&dns_scratch, &which);
	if (!scratch)
		return 0;
	captured = dns_copy(scratch, &place, bytes);
	dns_emit(sk, &end, &peer, bytes, scratch, captured, flags);
	return 0;
}

SEC("tp_btf/sock_send_length")
int weir_dns_send(__u64 *ctx)
{
	__u64 thread;

	if ((int)ctx[1] < 0) { /* ends a sendmmsg: the next one is at its first message */
		thread = bpf_get_current_pid_tgid();
		bpf_map_delete_elem(&dns_calls, &thread);
		return 0;
	}
	return on_dns((struct sock *)ctx[0], (int)ctx[1], true);
}

SEC("tp_btf/sock_recv_length")
int weir_dns_receive(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	int flags = (int)ctx[2];

	/* TCP throws away what MSG_TRUNC asks for: nothing of it is in the caller's memory. */
	if (flags & (MSG_PEEK | MSG_ERRQUEUE) || (flags & DNS_TRUNC && sk->sk_protocol == IPPROTO_TCP))
		return 0;
	return on_dns((struct sock *)ctx[0], (int)ctx[1], false);
}

#endif
