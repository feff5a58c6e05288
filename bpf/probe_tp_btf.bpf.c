// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Can BTF tracepoints be attached? */
#include "probe.h"

SEC("tp_btf/inet_sock_set_state")
int set_state(void *ctx)
{
	hit(0);
	return 0;
}
