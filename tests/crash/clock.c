/* Moves the wall clock of one process, for tests/crash. Loaded with LD_PRELOAD; clocks that only
 * grow are not touched, as they are not by an operator or by NTP either.
 *
 * The file CLOCK_FILE, which the test and the process map, says by how many nanoseconds, and at
 * which moment the clock stands still (0: it goes).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The same order as tests/crash/clock.py writes. */
struct moved { int64_t by_ns, still_at_ns; };

static volatile struct moved *moved;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CLOCK_FILE");
    if (!path) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) abort();
    void *map = mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) abort();
    moved = map;
    close(fd);
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_gettime) real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real_gettime(clock, time);
    if (done || !moved || !is_wall(clock)) return done;
    int64_t ns = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
    ns = moved->still_at_ns ? moved->still_at_ns : ns + moved->by_ns;
    time->tv_sec = ns / 1000000000;
    time->tv_nsec = ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict value, void *restrict zone) {
    struct timespec time;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &time)) return -1;
    value->tv_sec = time.tv_sec;
    value->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
