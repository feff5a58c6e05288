/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What every probe shares: it counts hits of Weir's own process and looks at nothing else. */
#ifndef WEIR_PROBE_H
#define WEIR_PROBE_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>

const volatile __u32 self_pid = 0;
const volatile __u64 self_pidns_dev = 0;
const volatile __u64 self_pidns_ino = 0;
__u64 hits[4] = {};

static __always_inline void hit(__u32 which)
{
	struct bpf_pidns_info info = {};

	if (bpf_get_ns_current_pid_tgid(self_pidns_dev, self_pidns_ino, &info, sizeof(info)) || info.tgid != self_pid)
		return;
	__sync_fetch_and_add(&hits[which & 3], 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
