/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One DNS message, or one piece of a TCP stream of them, as the kernel side hands it to user space. */
#ifndef WEIR_DNS_H
#define WEIR_DNS_H

#define WEIR_DNS_VERSION 1
#define WEIR_DNS_DATA 512

enum weir_dns_flag {
	WEIR_DNS_TRANSMIT = 1, /* this end sends it */
	WEIR_DNS_SELF = 2,     /* the far end is Weir */
	WEIR_DNS_SEVERAL = 4,  /* several servers were asked this: the peer is the first; which of them answers is not known */
};

/* Times are boot-clock nanoseconds, ports in host order, IPv4 addresses as ::ffff:a.b.c.d. */
struct weir_dns {
	__u8 version;
	__u8 transport;
	__u8 flags;
	__u8 family; /* of the socket: 4 or 6 */
	__u16 local_port;
	__u16 peer_port; /* 0: not known */
	__u32 netns;
	__u32 owner_pid;
	__u64 owner_start;
	__u64 cgroup_id;
	__u64 cookie; /* the socket's */
	__u64 time;
	__u32 size;	/* octets that the call moved */
	__u16 captured; /* of them in `data`, at most WEIR_DNS_DATA - 1 */
	__u16 reserved;
	__u8 local_address[16];
	__u8 peer_address[16];
	__u8 comm[16];
	__u8 data[WEIR_DNS_DATA];
};
_Static_assert(sizeof(struct weir_dns) == 616, "weir_dns has no implicit padding");

#endif
