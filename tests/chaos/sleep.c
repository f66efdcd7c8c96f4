/* libfaketime 0.9.10 takes the absolute time of a sleep by the monotonic clock for one by the faked clock, so that
   every sleep of Python fails with EINVAL once the clock is set back. Loaded before it, this leaves sleeps alone. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left) {
    return syscall(SYS_clock_nanosleep, clock, flags, request, left) ? errno : 0;
}
