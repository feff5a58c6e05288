/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The tables of UDP to records: samples, updates, ends; and what is over is forgotten. */
#ifndef WEIR_FLOW_UDP_PASS_H
#define WEIR_FLOW_UDP_PASS_H

#include "flow_udp_count.h"

/* The pass over UDP's flows: as `weir_pass`, and the end of those that were idle for long enough. */
SEC("iter/bpf_map_elem")
int weir_udp_pass(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct udp_key *at = ctx->key;
	struct udp_key key;
	struct udp_flow *udp;
	struct weir_event e;
	__u64 now, transmit_packets, receive_packets;

	if (!at)
		return 0;
	key = *at;
	udp = find(&key);
	if (!udp)
		return 0;
	fill_udp(&e, udp);
	e.kind = WEIR_SAMPLE;
	now = bpf_ktime_get_boot_ns();
	bpf_spin_lock(&udp->lock);
	if (udp->ended) {
		bpf_spin_unlock(&udp->lock);
		return 0;
	}
	if (pass_shutdown) {
		e.kind = WEIR_END;
		e.end_cause = WEIR_CAUSE_SHUTDOWN;
	} else if (now > udp->last_seen && now - udp->last_seen >= udp_idle_timeout) {
		e.kind = WEIR_END;
		e.end_cause = WEIR_CAUSE_IDLE;
	} else if (pass_update_interval && now - udp->flow.last_event >= pass_update_interval &&
		   udp->last_seen > udp->flow.last_event) {
		e.kind = WEIR_UPDATE;
	}
	udp->ended = e.kind == WEIR_END;
	e.time = udp->last_seen;
	e.flags = udp->flow.flags;
	e.transmit_bytes = udp->transmit_bytes;
	e.receive_bytes = udp->receive_bytes;
	transmit_packets = udp->transmit_packets;
	receive_packets = udp->receive_packets;
	e.counted_transmit = udp->flow.counted_transmit;
	e.counted_receive = udp->flow.counted_receive;
	bpf_spin_unlock(&udp->lock);
	e.transmit_packets = transmit_packets > 0xffffffff ? 0xffffffff : transmit_packets;
	e.receive_packets = receive_packets > 0xffffffff ? 0xffffffff : receive_packets;
	if (e.flags & WEIR_SELF) {
		if (e.kind != WEIR_SAMPLE)
			count(&counters.filtered_self);
	} else if (!filtered_out(&udp->flow, e.peer_address, e.local_port, e.peer_port, e.kind != WEIR_SAMPLE)) {
		if (bpf_seq_write(ctx->meta->seq, &e, sizeof(e))) {
			/* No room in this read's buffer: the kernel calls again for the same element. */
			bpf_spin_lock(&udp->lock);
			udp->ended = 0;
			bpf_spin_unlock(&udp->lock);
			return 0;
		}
		if (e.kind != WEIR_SAMPLE) {
			count(&counters.begun);
			count(&counters.done);
		}
	}
	if (e.kind == WEIR_END) {
		forget(&key);
		return 0;
	}
	bpf_spin_lock(&udp->lock);
	if (e.kind == WEIR_UPDATE)
		udp->flow.last_event = now;
	udp->flow.counted_transmit = e.transmit_bytes;
	udp->flow.counted_receive = e.receive_bytes;
	udp->flow.flags |= WEIR_COUNTED;
	bpf_spin_unlock(&udp->lock);
	return 0;
}

/* What was sent last is forgotten like a flow, and so is that a sender was guessed. */
SEC("iter/bpf_map_elem")
int weir_udp_clean(struct bpf_iter__bpf_map_elem *ctx)
{
	const __u64 *at = ctx->key;
	__u64 cookie, now = bpf_ktime_get_boot_ns();
	struct udp_sent *last;

	if (!at)
		return 0;
	cookie = *at;
	last = bpf_map_lookup_elem(&udp_last, &cookie);
	if (!last)
		return 0;
	if (last->guessed_at && now > last->guessed_at && now - last->guessed_at >= udp_idle_timeout)
		last->guessed_at = 0;
	if (!last->guessed_at && now > last->sent_at && now - last->sent_at >= udp_idle_timeout)
		bpf_map_delete_elem(&udp_last, &cookie);
	return 0;
}

/* The bound sockets of Weir's own network namespace, for what no visible task has open. */
SEC("iter/udp")
int weir_list_udp(struct bpf_iter__udp *ctx)
{
	struct sock *sk = (struct sock *)ctx->udp_sk;

	if (sk)
		note_old(sk);
	return 0;
}

#endif
