// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Are the calls that send and receive datagrams seen, and the ends of system calls? It counts Weir's own, and reads nothing. */
#include "probe.h"

SEC("tp_btf/sock_send_length")
int datagram_sent(void *ctx)
{
	hit(0);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int datagram_received(void *ctx)
{
	hit(1);
	return 0;
}

SEC("tp_btf/sys_exit")
int call_ended(void *ctx)
{
	hit(2);
	return 0;
}
