/* Lets one call that a process makes on the disk fail, for tests/crash: the n-th write, flush,
 * rename or mapping of a file under the folder FAULT_FOLDER, or the n-th fork. Loaded with
 * LD_PRELOAD; all other calls happen as ever.
 *
 * What is to fail, and what has been seen, stands in the file FAULT_SWITCH, which the test and the
 * processes map, builders among them: so n counts the calls of all of them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 1024
#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

enum { KILL = -1, TORN = -2, HALF = 2 };
enum { WRITE, FLUSH, RENAME, MAP, FORK, KINDS };
/* The same order as tests/crash/faults.py reads. */
struct fault { int64_t at, error, kinds, count, failed, seen[KINDS]; };

static struct fault *fault;
static char folder[4096];
static char watched[DESCRIPTORS];

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULT_SWITCH"), *under = getenv("FAULT_FOLDER");
    if (!path || !under || strlen(under) >= sizeof folder) return;
    strcpy(folder, under);
    int fd = REAL(int, open, const char *, int, ...)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) abort();
    fault = REAL(void *, mmap, void *, size_t, int, int, int, off_t)(
        NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fault == MAP_FAILED) abort();
    REAL(int, close, int)(fd);
}

static void end(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* Whether a call is the one that is to fail; errno says why then. HALF: half of it is to be done,
 * and that is the end. */
static int fails(int kind) {
    if (!fault || !fault->at || !(fault->kinds >> kind & 1)) return 0;
    __atomic_add_fetch(&fault->seen[kind], 1, __ATOMIC_SEQ_CST);
    if (__atomic_add_fetch(&fault->count, 1, __ATOMIC_SEQ_CST) != fault->at) return 0;
    fault->failed = kind + 1;
    if (fault->error == KILL) end();
    if (fault->error == TORN) return kind == WRITE ? HALF : (end(), 1);
    errno = kind == MAP ? ENOMEM : kind == FORK ? EAGAIN : (int)fault->error;
    return 1;
}

static int ours(const char *path) { return folder[0] && !strncmp(path, folder, strlen(folder)); }

static int is_watched(int fd) { return fd >= 0 && fd < DESCRIPTORS && watched[fd]; }

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < DESCRIPTORS) watched[fd] = ours(path);
    return fd;
}

#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                            \
        va_list rest;                                                                       \
        va_start(rest, flags);                                                              \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;                   \
        va_end(rest);                                                                       \
        return opened(REAL(int, name, const char *, int, ...)(path, flags, mode), path);    \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (is_watched(fd)) watched[fd] = 0;
    return REAL(int, close, int)(fd);
}

/* A call on a descriptor: its kind, what it gives when it fails, its type, name and parameters. */
#define CALL(kind, type, name, parameters, arguments, half, ...)                            \
    type name parameters {                                                                  \
        int how = is_watched(fd) ? fails(kind) : 0;                                         \
        if (how == HALF) { (void)!REAL(type, name, __VA_ARGS__) half; end(); }              \
        if (how) return -1;                                                                 \
        return REAL(type, name, __VA_ARGS__) arguments;                                     \
    }
CALL(WRITE, ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), (fd, b, n / 2),
     int, const void *, size_t)
CALL(WRITE, ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), (fd, v, n / 2),
     int, const struct iovec *, int)
CALL(WRITE, ssize_t, pwrite, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at),
     (fd, b, n / 2, at),
     int, const void *, size_t, off_t)
CALL(WRITE, ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t at), (fd, b, n, at),
     (fd, b, n / 2, at),
     int, const void *, size_t, off64_t)
CALL(WRITE, ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at),
     (fd, v, n / 2, at),
     int, const struct iovec *, int, off_t)
CALL(WRITE, ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at),
     (fd, v, n / 2, at),
     int, const struct iovec *, int, off64_t)
CALL(WRITE, int, ftruncate, (int fd, off_t n), (fd, n), (fd, n), int, off_t)
CALL(WRITE, int, ftruncate64, (int fd, off64_t n), (fd, n), (fd, n), int, off64_t)
CALL(FLUSH, int, fsync, (int fd), (fd), (fd), int)
CALL(FLUSH, int, fdatasync, (int fd), (fd), (fd), int)

#define MMAP(name, type)                                                                    \
    void *name(void *address, size_t n, int protection, int flags, int fd, type offset) {   \
        if (is_watched(fd) && fails(MAP)) return MAP_FAILED;                                \
        return REAL(void *, name, void *, size_t, int, int, int, type)(                     \
            address, n, protection, flags, fd, offset);                                     \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

int rename(const char *from, const char *to) {
    if (ours(to) && fails(RENAME)) return -1;
    return REAL(int, rename, const char *, const char *)(from, to);
}

pid_t fork(void) { return fails(FORK) ? -1 : REAL(pid_t, fork, void)(); }
