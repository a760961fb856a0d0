/* Records what a process asks of the disk, for tests/crash: every write and flush of the files
 * data.mdb and LOCK, and every byte printed on descriptor 1, in one order, in the file that REC_LOG
 * names. Loaded with LD_PRELOAD; the calls themselves happen as ever.
 *
 * A record is a header (kind, file, 6 unused bytes, offset, length) and `length` bytes.
 * Kinds: W written, D written through a descriptor that flushes at once, S flushed, T cut to
 * `offset` bytes, A printed. Files: 0 data.mdb, 1 LOCK.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 1024
#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

enum { OTHER, DATA, LOCK };
struct header { char kind, file, unused[6]; int64_t offset, length; };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char files[DESCRIPTORS], dsync[DESCRIPTORS];

static ssize_t real_write(int fd, const void *bytes, size_t n) {
    return REAL(ssize_t, write, int, const void *, size_t)(fd, bytes, n);
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("REC_LOG");
    if (path)
        log_fd = REAL(int, open, const char *, int, ...)(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
}

static int watched(int fd) { return fd >= 0 && fd < DESCRIPTORS && files[fd] != OTHER; }

/* The mutex must be held. */
static void append(char kind, char file, int64_t offset, const void *bytes, int64_t n) {
    struct header header = {.kind = kind, .file = file, .offset = offset, .length = n};
    if (log_fd < 0) return;
    if (real_write(log_fd, &header, sizeof header) != sizeof header) abort();
    if (n > 0 && real_write(log_fd, bytes, n) != n) abort();
}

static void note(char kind, char file, int64_t offset, const void *bytes, int64_t n) {
    pthread_mutex_lock(&mutex);
    append(kind, file, offset, bytes, n);
    pthread_mutex_unlock(&mutex);
}

static void note_write(int fd, int64_t offset, const void *bytes, ssize_t n) {
    if (n > 0 && watched(fd)) note(dsync[fd] ? 'D' : 'W', files[fd] - 1, offset, bytes, n);
}

static void note_vector(int fd, int64_t offset, const struct iovec *parts, int count, ssize_t n) {
    for (int i = 0; i < count && n > 0; i++) {
        ssize_t length = n < (ssize_t)parts[i].iov_len ? n : (ssize_t)parts[i].iov_len;
        note_write(fd, offset, parts[i].iov_base, length);
        offset += length;
        n -= length;
    }
}

static int named(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, name) == 0;
}

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < DESCRIPTORS) {
        files[fd] = named(path, "data.mdb") ? DATA : named(path, "LOCK") ? LOCK : OTHER;
        dsync[fd] = (flags & O_DSYNC) != 0;
    }
    return fd;
}

#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                            \
        va_list rest;                                                                       \
        va_start(rest, flags);                                                              \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;                   \
        va_end(rest);                                                                       \
        return opened(REAL(int, name, const char *, int, ...)(path, flags, mode), path, flags); \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(name, type)                                                                  \
    ssize_t name(int fd, const void *bytes, size_t n, type offset) {                        \
        ssize_t done = REAL(ssize_t, name, int, const void *, size_t, type)(fd, bytes, n, offset); \
        note_write(fd, offset, bytes, done);                                                \
        return done;                                                                        \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, type)                                                                 \
    ssize_t name(int fd, const struct iovec *parts, int count, type offset) {               \
        ssize_t done = REAL(ssize_t, name, int, const struct iovec *, int, type)(fd, parts, count, offset); \
        note_vector(fd, offset, parts, count, done);                                        \
        return done;                                                                        \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

ssize_t write(int fd, const void *bytes, size_t n) {
    if (fd == 1) note('A', 0, 0, bytes, n);
    ssize_t done = real_write(fd, bytes, n);
    if (done > 0 && watched(fd)) note_write(fd, lseek(fd, 0, SEEK_CUR) - done, bytes, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t done = REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count);
    if (done > 0 && watched(fd)) note_vector(fd, lseek(fd, 0, SEEK_CUR) - done, parts, count, done);
    return done;
}

/* One thread writes a file and flushes it, so a flush covers all that was noted before it. */
#define FLUSH(name)                                                                         \
    int name(int fd) {                                                                      \
        int failed = REAL(int, name, int)(fd);                                              \
        if (!failed && watched(fd)) note('S', files[fd] - 1, 0, NULL, 0);                   \
        return failed;                                                                      \
    }
FLUSH(fsync)
FLUSH(fdatasync)

#define TRUNCATE(name, type)                                                                \
    int name(int fd, type length) {                                                         \
        int failed = REAL(int, name, int, type)(fd, length);                                \
        if (!failed && watched(fd)) note('T', files[fd] - 1, length, NULL, 0);              \
        return failed;                                                                      \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)
