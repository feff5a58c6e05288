// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Can a function of a process be probed (here Weir's own)? It reads nothing of it. */
#include "probe.h"

SEC("uprobe")
int entry(void *ctx)
{
	hit(0);
	return 0;
}
