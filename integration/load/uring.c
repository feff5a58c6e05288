// uring HOW: a server and a client in two processes that do everything with their connection by io_uring. HOW: inline (the submitter
// does it), async (a worker of the kernel's does it for the submitter), poll (a kernel thread takes the requests), silent (inline; accepted
// and closed without I/O). Prints a fact for each end; exit code 3 where io_uring is not to be had.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *sq_flags, *cq_head, *cq_tail, *cq_mask, async;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static int polling;

static void set_up(void)
{
	struct io_uring_params p = {.flags = polling ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 50};
	char *sq, *cq;

	ring = syscall(SYS_io_uring_setup, 8, &p);
	if (ring < 0)
		exit(3);
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*cqes), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || (void *)sqes == MAP_FAILED)
		exit(1);
	sq_tail = (void *)(sq + p.sq_off.tail);
	sq_mask = (void *)(sq + p.sq_off.ring_mask);
	sq_array = (void *)(sq + p.sq_off.array);
	sq_flags = (void *)(sq + p.sq_off.flags);
	cq_head = (void *)(cq + p.cq_off.head);
	cq_tail = (void *)(cq + p.cq_off.tail);
	cq_mask = (void *)(cq + p.cq_off.ring_mask);
	cqes = (void *)(cq + p.cq_off.cqes);
}

// One request, and its result.
static int ask(int code, int fd, const void *address, unsigned length, uint64_t offset)
{
	unsigned tail = *sq_tail, at = tail & *sq_mask, head = *cq_head;
	unsigned wake = 0;
	int result;

	sqes[at] = (struct io_uring_sqe){.opcode = code, .fd = fd, .addr = (uintptr_t)address, .len = length, .off = offset};
	sqes[at].flags = async;
	sq_array[at] = at;
	__atomic_store_n(sq_tail, tail + 1, __ATOMIC_SEQ_CST);
	if (polling && __atomic_load_n(sq_flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP)
		wake = IORING_ENTER_SQ_WAKEUP;
	while (syscall(SYS_io_uring_enter, ring, polling ? 0 : 1, 1, IORING_ENTER_GETEVENTS | wake, NULL, 0) < 0)
		if (errno != EINTR)
			exit(1);
	while (head == __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE))
		;
	result = cqes[head & *cq_mask].res;
	__atomic_store_n(cq_head, head + 1, __ATOMIC_RELEASE);
	return result;
}

static void say(const char *role, const struct sockaddr_in *local, const struct sockaddr_in *peer, int sent, int received)
{
	char comm[64] = "", exe[4096] = "", a[32], b[32];
	FILE *file = fopen("/proc/self/comm", "r");
	ssize_t length = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (!file || length < 0 || !fgets(comm, sizeof(comm), file))
		exit(1);
	fclose(file);
	comm[strcspn(comm, "\n")] = 0;
	inet_ntop(AF_INET, &local->sin_addr, a, sizeof(a));
	inet_ntop(AF_INET, &peer->sin_addr, b, sizeof(b));
	printf("{\"role\": \"%s\", \"local\": [\"%s\", %d], \"peer\": [\"%s\", %d], \"sent\": %d, \"received\": %d,"
	       " \"pid\": %d, \"comm\": \"%s\", \"exe\": \"%s\"}\n",
	       role, a, ntohs(local->sin_port), b, ntohs(peer->sin_port), sent, received, getpid(), comm, exe);
	fflush(stdout);
}

int main(int count, char **words)
{
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, local, peer;
	socklen_t size = sizeof(server), local_size = sizeof(local), peer_size = sizeof(peer);
	int listener = socket(AF_INET, SOCK_STREAM, 0), connection, sent = 0, received = 0, silent;
	char data[100] = {};
	pid_t child;

	if (count != 2 || bind(listener, (void *)&server, sizeof(server)) || listen(listener, 8) ||
	    getsockname(listener, (void *)&server, &size))
		return 1;
	silent = !strcmp(words[1], "silent");
	polling = !strcmp(words[1], "poll");
	async = strcmp(words[1], "async") ? 0 : IOSQE_ASYNC;
	child = fork();
	set_up();
	if (child) {
		connection = ask(IORING_OP_ACCEPT, listener, NULL, 0, 0);
		if (connection < 0)
			return 1;
	} else {
		connection = socket(AF_INET, SOCK_STREAM, 0);
		if (ask(IORING_OP_CONNECT, connection, &server, 0, sizeof(server)))
			return 1;
	}
	getsockname(connection, (void *)&local, &local_size);
	getpeername(connection, (void *)&peer, &peer_size);
	if (!silent) {
		if (child) {
			received = ask(IORING_OP_RECV, connection, data, 70, 0);
			sent = ask(IORING_OP_SEND, connection, data, 30, 0);
		} else {
			sent = ask(IORING_OP_SEND, connection, data, 70, 0);
			received = ask(IORING_OP_RECV, connection, data, 30, 0);
		}
	}
	if (!child && ask(IORING_OP_RECV, connection, data, 1, 0)) // the server closes first
		return 1;
	if (ask(IORING_OP_CLOSE, connection, NULL, 0, 0))
		return 1;
	say(child ? "server" : "client", &local, &peer, sent, received);
	if (child) {
		int status;

		if (waitpid(child, &status, 0) != child || status)
			return status >> 8;
	}
	while (read(0, data, sizeof(data)) > 0) // it stays, so that it can be looked at
		;
	return 0;
}
