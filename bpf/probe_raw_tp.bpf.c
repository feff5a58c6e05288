// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Can raw tracepoints be attached and a ring be written to? One program a tracepoint that Weir uses. */
#include "probe.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps");

SEC("raw_tp/inet_sock_set_state")
int set_state(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 *slot;

	hit(0);
	if (!hits[0])
		return 0;
	slot = bpf_ringbuf_reserve(&ring, sizeof(*slot), 0);
	if (!slot)
		return 0;
	*slot = 1;
	bpf_ringbuf_submit(slot, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("raw_tp/tcp_rcv_space_adjust")
int receive(struct bpf_raw_tracepoint_args *ctx)
{
	hit(1);
	return 0;
}

SEC("raw_tp/sock_send_length")
int send(struct bpf_raw_tracepoint_args *ctx)
{
	hit(2);
	return 0;
}
