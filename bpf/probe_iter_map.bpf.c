// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Can a map be walked by an iterator? */
#include "probe.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} walked SEC(".maps");

SEC("iter/bpf_map_elem")
int walk(struct bpf_iter__bpf_map_elem *ctx)
{
	hit(0);
	return 0;
}
