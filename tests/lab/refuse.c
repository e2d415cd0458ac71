/* A sandbox between the Python programs below it and rtnetlink, by LD_PRELOAD. What it refuses is in the environment:
 * REFUSE_SOCKET (any value): every AF_NETLINK socket; REFUSE_TYPE: requests of this RTM_* type, which the kernel gets as
 * one that it does not know; REFUSE_GROUP: membership in this RTNLGRP_* group. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char *refused(const char *name) /* `ip netns exec`, which starts Python, goes without */
{
	return strncmp(program_invocation_short_name, "python", 6) ? NULL : getenv(name);
}

int socket(int domain, int type, int protocol)
{
	int (*real)(int, int, int) = dlsym(RTLD_NEXT, "socket");
	if (domain != AF_NETLINK || !refused("REFUSE_SOCKET"))
		return real(domain, type, protocol);
	errno = EAFNOSUPPORT;
	return -1;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
	const char *group = refused("REFUSE_GROUP");
	if (!group || level != SOL_NETLINK || name != NETLINK_ADD_MEMBERSHIP || *(const int *)value != atoi(group))
		return real(fd, level, name, value, size);
	errno = EPERM;
	return -1;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
	ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
	const char *type = refused("REFUSE_TYPE");
	int domain = 0;
	socklen_t length = sizeof domain;
	char copy[1 << 16];
	if (!type || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) || domain != AF_NETLINK || size > sizeof copy)
		return real(fd, data, size, flags);
	memcpy(copy, data, size);
	if (((struct nlmsghdr *)copy)->nlmsg_type == atoi(type))
		((struct nlmsghdr *)copy)->nlmsg_type = 0x3ff0;
	return real(fd, copy, size, flags);
}
