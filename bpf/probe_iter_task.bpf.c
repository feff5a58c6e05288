// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Can the open files of tasks be walked by an iterator? It counts that it ran and looks at no task. */
#include "probe.h"

SEC("iter/task_file")
int walk(void *ctx)
{
	hit(0);
	return 0;
}
