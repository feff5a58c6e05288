/*
 * UDP traffic of known counts by calls that take several messages, and by calls whose message is several datagrams.
 * Prints a fact for each flow and {"done": "messages"}; stays until its standard input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEGMENT 103 /* UDP_SEGMENT */
#define GRO 104	    /* UDP_GRO */
#define SOL_UDP 17
#define MANY 6

struct end {
	int fd;
	struct sockaddr_in address;
};

struct flow {
	const struct end *local;
	struct sockaddr_in peer;
	long sent, sent_packets, received, received_packets;
	int bound_to_none;
};

static char data[8192];

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static struct end at(const char *address)
{
	struct end end = { .fd = socket(AF_INET, SOCK_DGRAM, 0), .address = { .sin_family = AF_INET } };
	socklen_t length = sizeof(end.address);

	inet_pton(AF_INET, address, &end.address.sin_addr);
	check(end.fd >= 0 && !bind(end.fd, (void *)&end.address, length), "bind");
	check(!getsockname(end.fd, (void *)&end.address, &length), "getsockname");
	return end;
}

static void say(const char *role, const struct flow *flow)
{
	char comm[32] = "", exe[512] = "", local[32], peer[32];
	FILE *file = fopen("/proc/self/comm", "r");

	if (file) {
		if (fscanf(file, "%31s", comm) != 1)
			comm[0] = 0;
		fclose(file);
	}
	check(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0, "exe");
	inet_ntop(AF_INET, &flow->local->address.sin_addr, local, sizeof(local));
	inet_ntop(AF_INET, &flow->peer.sin_addr, peer, sizeof(peer));
	printf("{\"role\": \"%s\", \"local\": [\"%s\", %d], \"peer\": [\"%s\", %d], \"sent\": %ld, \"received\": %ld, "
	       "\"sent_packets\": %ld, \"received_packets\": %ld, \"pid\": %d, \"comm\": \"%s\", \"exe\": \"%s\"}\n",
	       role, local, ntohs(flow->local->address.sin_port), peer, ntohs(flow->peer.sin_port), flow->sent, flow->received,
	       flow->sent_packets, flow->received_packets, getpid(), comm, exe);
}

static void prepare(struct mmsghdr *messages, struct iovec *parts, struct sockaddr_in *names, int count)
{
	memset(messages, 0, count * sizeof(*messages));
	for (int i = 0; i < count; i++) {
		parts[i].iov_base = data + 1000 * i;
		parts[i].iov_len = 1000;
		messages[i].msg_hdr.msg_name = &names[i];
		messages[i].msg_hdr.msg_namelen = sizeof(names[i]);
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

/* One sendmmsg to three peers, ten times; each of them takes it by recvmmsg. Then one recvmmsg from three peers. */
static void several(void)
{
	struct end one = at("127.0.0.1"), three[3] = { at("127.0.0.1"), at("127.0.0.2"), at("127.0.0.3") };
	struct flow out[3] = {}, in[3] = {}, back[3] = {};
	struct mmsghdr messages[MANY];
	struct iovec parts[MANY];
	struct sockaddr_in names[MANY];
	struct end last = at("127.0.0.1");

	for (int i = 0; i < 3; i++) {
		out[i].local = &one, out[i].peer = three[i].address;
		in[i].local = &three[i], in[i].peer = one.address;
	}
	for (int round = 0; round < 10; round++) {
		prepare(messages, parts, names, MANY);
		for (int i = 0; i < MANY; i++) {
			names[i] = three[i % 3].address;
			parts[i].iov_len = 10 * (i + 1);
			out[i % 3].sent += 10 * (i + 1), out[i % 3].sent_packets++;
		}
		check(sendmmsg(one.fd, messages, MANY, 0) == MANY, "sendmmsg");
		for (int i = 0; i < 3; i++) {
			prepare(messages, parts, names, 4);
			int count = recvmmsg(three[i].fd, messages, 4, MSG_DONTWAIT, NULL);

			check(count == 2, "recvmmsg");
			for (int k = 0; k < count; k++)
				in[i].received += messages[k].msg_len, in[i].received_packets++;
		}
	}
	/* A call that ends early, because a message is too long, does not shift the next one. */
	prepare(messages, parts, names, 3);
	for (int i = 0; i < 3; i++)
		names[i] = three[i].address, parts[i].iov_len = 100;
	parts[1].iov_base = data, parts[1].iov_len = 70000;
	check(sendmmsg(one.fd, messages, 3, 0) == 1, "short sendmmsg");
	out[0].sent += 100, out[0].sent_packets++;
	parts[1].iov_len = 100;
	check(sendmmsg(one.fd, messages, 3, 0) == 3, "sendmmsg after a short one");
	for (int i = 0; i < 3; i++)
		out[i].sent += 100, out[i].sent_packets++;
	for (int i = 0; i < 3; i++) {
		struct flow send = { .local = &three[i], .peer = last.address };

		back[i] = (struct flow){ .local = &last, .peer = three[i].address };
		for (int k = 0; k < 2; k++) {
			check(sendto(three[i].fd, data, 20 + i, 0, (void *)&last.address, sizeof(last.address)) > 0, "sendto");
			send.sent += 20 + i, send.sent_packets++;
			back[i].received += 20 + i, back[i].received_packets++;
		}
		say("client", &send);
	}
	prepare(messages, parts, names, MANY);
	check(recvmmsg(last.fd, messages, MANY, 0, NULL) == MANY, "recvmmsg from three");
	for (int i = 0; i < 3; i++) {
		say("client", &out[i]);
		say("server", &in[i]);
		say("server", &back[i]);
	}
}

/* Connected, without names, as getaddrinfo does it. */
static void connected(void)
{
	struct end server = at("127.0.0.1"), client = at("127.0.0.1");
	struct flow out = { .local = &client, .peer = server.address };
	struct mmsghdr messages[2];
	struct iovec parts[2];
	struct sockaddr_in names[2];

	check(!connect(client.fd, (void *)&server.address, sizeof(server.address)), "connect");
	prepare(messages, parts, names, 2);
	for (int i = 0; i < 2; i++)
		messages[i].msg_hdr.msg_name = NULL, messages[i].msg_hdr.msg_namelen = 0, parts[i].iov_len = 30 + i;
	check(sendmmsg(client.fd, messages, 2, 0) == 2, "sendmmsg");
	out.sent = 61, out.sent_packets = 2;
	say("client", &out);
}

/* 4 datagrams by the socket's option, 8 by a control message; received one by one, then 4 by one call. */
static void segments(void)
{
	struct end client = at("127.0.0.1"), server = at("127.0.0.1"), other = at("127.0.0.1");
	struct flow out = { .local = &client, .peer = server.address }, in = { .local = &server, .peer = client.address };
	struct flow more = { .local = &client, .peer = other.address };
	int size = 1000, none = 0, on = 1;
	char control[CMSG_SPACE(2)] = "";
	struct iovec part = { data, 4000 };
	struct msghdr message = { .msg_name = &server.address, .msg_namelen = sizeof(server.address), .msg_iov = &part,
				  .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	check(!setsockopt(client.fd, SOL_UDP, SEGMENT, &size, sizeof(size)), "UDP_SEGMENT");
	check(sendto(client.fd, data, 3500, 0, (void *)&server.address, sizeof(server.address)) == 3500, "segments");
	check(!setsockopt(client.fd, SOL_UDP, SEGMENT, &none, sizeof(none)), "UDP_SEGMENT");
	head->cmsg_level = SOL_UDP, head->cmsg_type = SEGMENT, head->cmsg_len = CMSG_LEN(2);
	*(unsigned short *)CMSG_DATA(head) = 500;
	check(sendmsg(client.fd, &message, 0) == 4000, "segments by control message");
	out.sent = 7500, out.sent_packets = 12;
	for (int i = 0; i < 12; i++) {
		long got = recvfrom(server.fd, data, sizeof(data), 0, (void *)&(struct sockaddr_in){}, &(socklen_t){ 16 });

		check(got > 0, "recvfrom");
		in.received += got, in.received_packets++;
	}
	say("client", &out);
	say("server", &in);
	check(!setsockopt(other.fd, SOL_UDP, GRO, &on, sizeof(on)), "UDP_GRO");
	check(!setsockopt(client.fd, SOL_UDP, SEGMENT, &size, sizeof(size)), "UDP_SEGMENT");
	check(sendto(client.fd, data, 4000, 0, (void *)&other.address, sizeof(other.address)) == 4000, "segments");
	more.sent = 4000, more.sent_packets = 4;
	say("client", &more);
	struct flow least = { .local = &other, .peer = client.address, .received = 4000, .received_packets = 1 };

	check(recvfrom(other.fd, data, sizeof(data), 0, (void *)&(struct sockaddr_in){}, &(socklen_t){ 16 }) == 4000, "GRO");
	say("server", &least);
}

/* By io_uring there is no call that the address could be read from: both peers stay unknown, the totals do not. */
static void ring(void)
{
	struct end client = at("127.0.0.1"), server = at("127.0.0.1");
	struct sockaddr_in nobody = { .sin_family = AF_INET }, from;
	struct flow out = { .local = &client, .peer = nobody }, in = { .local = &server, .peer = nobody };
	struct io_uring_params p = {};
	int fd = syscall(SYS_io_uring_setup, 16, &p);

	if (fd < 0)
		return; /* a kernel without it, or that forbids it */
	char *sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	struct io_uring_sqe *sqes = mmap(NULL, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
					 IORING_OFF_SQES);

	check(sq != MAP_FAILED && sqes != MAP_FAILED, "rings");
	for (int i = 0; i < 10; i++) {
		struct iovec part = { data, 100 };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_namelen = sizeof(from) };
		unsigned int *tail = (unsigned int *)(sq + p.sq_off.tail), at = *tail & *(unsigned int *)(sq + p.sq_off.ring_mask);

		message.msg_name = i % 2 ? &from : &server.address;
		memset(&sqes[at], 0, sizeof(*sqes));
		sqes[at].opcode = i % 2 ? IORING_OP_RECVMSG : IORING_OP_SENDMSG;
		sqes[at].flags = i > 4 ? IOSQE_ASYNC : 0; /* by a worker thread too */
		sqes[at].fd = i % 2 ? server.fd : client.fd;
		sqes[at].addr = (unsigned long)&message;
		((unsigned int *)(sq + p.sq_off.array))[at] = at;
		__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
		check(syscall(SYS_io_uring_enter, fd, 1, i + 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1, "enter"); /* until it is done */
		if (i % 2)
			in.received += 100, in.received_packets++;
		else
			out.sent += 100, out.sent_packets++;
	}
	say("unknown", &out);
	say("unknown", &in);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	several();
	connected();
	segments();
	ring();
	printf("{\"done\": \"messages\"}\n");
	return getchar() == EOF ? 0 : 1;
}
