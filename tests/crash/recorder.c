/* Records what a process asks of the disk, for tests/crash: every write, cut and flush of a file
 * under the folder REC_FOLDER, every name that is made, changed or removed there, every flush of a
 * folder, and every byte printed on descriptor 1, in one order, in the file that REC_LOG names.
 * Loaded with LD_PRELOAD; the calls themselves happen as ever.
 *
 * A record is a header (kind, unused bytes, file, offset, length) and `length` bytes. Kinds: W
 * written, D written through a descriptor that flushes at once, S flushed, T cut to `offset` bytes;
 * C a file's name made, M a folder's, R a name changed (both, with a NUL between), U removed, Y a
 * folder flushed; A printed. A file is known by its inode, names are relative to the folder.
 *
 * Names that are given relative to a descriptor (as shutil.rmtree does) are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 1024
#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

struct header { char kind, unused[7]; uint64_t file; int64_t offset, length; };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[4096];
static uint64_t files[DESCRIPTORS];
static char dsync[DESCRIPTORS], *folders[DESCRIPTORS];

static ssize_t real_write(int fd, const void *bytes, size_t n) {
    return REAL(ssize_t, write, int, const void *, size_t)(fd, bytes, n);
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("REC_LOG"), *folder = getenv("REC_FOLDER");
    if (!path || !folder || strlen(folder) >= sizeof root) return;
    strcpy(root, folder);
    log_fd = REAL(int, open, const char *, int, ...)(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
}

/* A name relative to the folder; NULL where it is elsewhere. */
static const char *ours(const char *path) {
    size_t n = strlen(root);
    if (log_fd < 0 || strncmp(path, root, n)) return NULL;
    return path[n] == '/' ? path + n + 1 : path[n] ? NULL : path + n;
}

/* The mutex must be held. */
static void append(char kind, uint64_t file, int64_t offset, const void *bytes, int64_t n) {
    struct header header = {.kind = kind, .file = file, .offset = offset, .length = n};
    if (log_fd < 0) return;
    if (real_write(log_fd, &header, sizeof header) != sizeof header) abort();
    if (n > 0 && real_write(log_fd, bytes, n) != n) abort();
}

static void note(char kind, uint64_t file, int64_t offset, const void *bytes, int64_t n) {
    pthread_mutex_lock(&mutex);
    append(kind, file, offset, bytes, n);
    pthread_mutex_unlock(&mutex);
}

static void note_name(char kind, uint64_t file, const char *path) {
    if ((path = ours(path))) note(kind, file, 0, path, strlen(path));
}

static int watched(int fd) { return fd >= 0 && fd < DESCRIPTORS && files[fd]; }

static void note_write(int fd, int64_t offset, const void *bytes, ssize_t n) {
    if (n > 0 && watched(fd)) note(dsync[fd] ? 'D' : 'W', files[fd], offset, bytes, n);
}

static void note_vector(int fd, int64_t offset, const struct iovec *parts, int count, ssize_t n) {
    for (int i = 0; i < count && n > 0; i++) {
        ssize_t length = n < (ssize_t)parts[i].iov_len ? n : (ssize_t)parts[i].iov_len;
        note_write(fd, offset, parts[i].iov_base, length);
        offset += length;
        n -= length;
    }
}

static void forget(int fd) {
    files[fd] = 0;
    free(folders[fd]);
    folders[fd] = NULL;
}

static int opened(int fd, const char *path, int flags, int is_new) {
    if (fd < 0 || fd >= DESCRIPTORS) return fd;
    forget(fd);
    struct stat about;
    if (!ours(path) || fstat(fd, &about)) return fd;
    if (S_ISDIR(about.st_mode)) {
        folders[fd] = strdup(path);
    } else if (S_ISREG(about.st_mode)) {
        files[fd] = about.st_ino;
        dsync[fd] = (flags & O_DSYNC) != 0;
        if (is_new) note_name('C', about.st_ino, path);
        else if (flags & O_TRUNC) note('T', about.st_ino, 0, NULL, 0);
    }
    return fd;
}

#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                            \
        va_list rest;                                                                       \
        va_start(rest, flags);                                                              \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;                   \
        va_end(rest);                                                                       \
        int is_new = ours(path) && (flags & O_CREAT) && access(path, F_OK);                 \
        int fd = REAL(int, name, const char *, int, ...)(path, flags, mode);                \
        return opened(fd, path, flags, is_new);                                             \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < DESCRIPTORS) forget(fd);
    return REAL(int, close, int)(fd);
}

int mkdir(const char *path, mode_t mode) {
    int failed = REAL(int, mkdir, const char *, mode_t)(path, mode);
    if (!failed) note_name('M', 0, path);
    return failed;
}

int unlink(const char *path) {
    int failed = REAL(int, unlink, const char *)(path);
    if (!failed) note_name('U', 0, path);
    return failed;
}

int rmdir(const char *path) {
    int failed = REAL(int, rmdir, const char *)(path);
    if (!failed) note_name('U', 0, path);
    return failed;
}

int rename(const char *from, const char *to) {
    int failed = REAL(int, rename, const char *, const char *)(from, to);
    if (!failed && ours(from) && ours(to)) {
        char both[2 * sizeof root];
        size_t n = strlen(ours(from)), m = strlen(ours(to));
        if (n + m + 1 > sizeof both) abort();
        memcpy(both, ours(from), n + 1);
        memcpy(both + n + 1, ours(to), m);
        note('R', 0, 0, both, n + m + 1);
    }
    return failed;
}

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
        if (!failed && watched(fd)) note('S', files[fd], 0, NULL, 0);                       \
        if (!failed && fd >= 0 && fd < DESCRIPTORS && folders[fd])                          \
            note_name('Y', 0, folders[fd]);                                                 \
        return failed;                                                                      \
    }
FLUSH(fsync)
FLUSH(fdatasync)

#define TRUNCATE(name, type)                                                                \
    int name(int fd, type length) {                                                         \
        int failed = REAL(int, name, int, type)(fd, length);                                \
        if (!failed && watched(fd)) note('T', files[fd], length, NULL, 0);                  \
        return failed;                                                                      \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)
