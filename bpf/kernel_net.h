/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel's types around a socket, as far as Weir reads them: error queue, MPTCP, conntrack. As in kernel.h, offsets come at load. */
#ifndef WEIR_KERNEL_NET_H
#define WEIR_KERNEL_NET_H

#include "kernel.h"

/* uapi/linux/errqueue.h */
#define SO_EE_ORIGIN_ICMP 2
#define SO_EE_ORIGIN_ICMP6 3
/* uapi/linux/netfilter/nf_conntrack_common.h */
#define IPS_DST_NAT 0x20

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};

struct sk_buff {
	char cb[48];
	struct sock *sk;
	unsigned long _nfct;
};

struct sk_buff_head {
	struct sk_buff *prev;
	__u32 qlen;
};

struct sock_extended_err {
	__u32 ee_errno;
	__u8 ee_origin;
};

struct sock_exterr_skb {
	struct sock_extended_err ee;
};

/* More of struct sock. */
struct sock___errors {
	int sk_err_soft;
	struct sk_buff_head sk_error_queue;
};

struct inet_connection_sock {
	void *icsk_ulp_data;
};

struct mptcp_sock {
	struct list_head conn_list;
	struct sock *first;
};

struct mptcp_subflow_context {
	struct list_head node;
	__u32 mp_capable : 1;
	__u32 mp_join : 1;
	struct sock *tcp_sock;
	struct sock *conn;
};

/* net/netfilter/nf_conntrack.h */
union nf_inet_addr {
	__u32 all[4];
};

union nf_conntrack_man_proto {
	__be16 all;
};

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
	__u16 l3num;
};

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
};

#pragma clang attribute pop

#endif
