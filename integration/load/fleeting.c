// fleeting ADDRESS PORT LOCAL_PORT: connects from LOCAL_PORT, sends five bytes and is gone at once, without closing anything.
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct sockaddr_in to = {.sin_family = AF_INET}, from = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (count != 4 || inet_pton(AF_INET, words[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons(atoi(words[2]));
	from.sin_port = htons(atoi(words[3]));
	if (bind(fd, (void *)&from, sizeof(from)) || connect(fd, (void *)&to, sizeof(to)))
		return 1;
	_exit(send(fd, "brief", 5, 0) != 5);
}
