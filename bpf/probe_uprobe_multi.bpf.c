// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Can a function be probed by a multi-uprobe link? libbpf 1.1 knows no such section: the attach type is set before load. */
#include "probe.h"

SEC("uprobe")
int entry(void *ctx)
{
	hit(0);
	return 0;
}
