// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* For the benchmarks only: fills a ring with flow records as fast as one CPU can, without any traffic. Attaches to nothing. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "weir_event.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} events SEC(".maps");

struct weir_counters counters = {};
const volatile __u64 wakeup_bytes = 0;

struct request {
	__u32 count;
	__u32 clients; /* distinct client addresses */
	__u32 ports;   /* distinct server ports */
	__u32 processes;
};

static long emit(__u32 i, struct request *request)
{
	struct weir_event *e;
	__u64 number = counters.begun, now = bpf_ktime_get_boot_ns();
	__u32 server = number & 1, client = number / 2 % request->clients;

	__sync_fetch_and_add(&counters.begun, 1);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&counters.ring_full, 1);
		__sync_fetch_and_add(&counters.done, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->version = WEIR_LAYOUT_VERSION;
	e->kind = WEIR_END;
	e->family = 4;
	e->transport = IPPROTO_TCP;
	e->role = 1 + server;
	e->old_state = TCP_FIN_WAIT2;
	e->state = TCP_CLOSE;
	e->end_cause = WEIR_CAUSE_CLOSED;
	e->owner_rule = WEIR_OWNER_CONNECT;
	e->flags = WEIR_ESTABLISHED | WEIR_START_SEEN;
	e->instance_id = number * 0x9e3779b97f4a7c15ULL;
	e->local_address[10] = e->local_address[11] = e->peer_address[10] = e->peer_address[11] = 0xff;
	*(__u32 *)(e->local_address + 12) = bpf_htonl(server ? 0x0a010001 : 0x0a000001 + client);
	*(__u32 *)(e->peer_address + 12) = bpf_htonl(server ? 0x0a000001 + client : 0x0a010001);
	e->local_port = server ? 8000 + number / 2 % request->ports : 32768 + (number & 0x3fff);
	e->peer_port = server ? 32768 + (number & 0x3fff) : 8000 + number / 2 % request->ports;
	e->start_time = now - 1000000;
	e->time = now;
	e->connect_duration = server ? 0 : 50000;
	e->transmit_bytes = number & 0xffff;
	e->receive_bytes = number * 3 & 0xffff;
	e->transmit_packets = e->receive_packets = 1;
	e->rtt = 20 + (number & 0xff);
	e->owner_pid = 1000 + number % request->processes;
	e->owner_start = 1;
	e->netns = 1;
	e->cgroup_id = 1;
	e->comm[0] = 'b';
	bpf_ringbuf_submit(e, bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wakeup_bytes ? BPF_RB_FORCE_WAKEUP :
											     BPF_RB_NO_WAKEUP);
	__sync_fetch_and_add(&counters.done, 1);
	return 0;
}

SEC("syscall")
int bench_fill(struct request *request)
{
	struct request copy = *request;

	if (copy.clients && copy.ports && copy.processes)
		bpf_loop(copy.count, emit, &copy, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
