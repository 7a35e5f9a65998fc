/* Preloaded into a job: the nth call that would change files below a folder fails, or kills it.

   FAULT_FOLDER  calls on paths below it count (those with FAULT_SKIP in their path do not)
   FAULT_CALL    open, write, fsync or rename; empty: any of them
   FAULT_PATH    a shell pattern that the path below the folder must match; empty: any
   FAULT_AT      which of these calls; every later one too where FAULT_ON is set
   FAULT_ERROR   number of the error; 0: the process sends itself FAULT_SIGNAL, or dies there and
                 then, in the middle of a write, where none is given
   FAULT_TRACE   a file that gets a line for each call that counts

   The environment is read at each call, so that a forked child can set its own fault. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int count;

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

/* Returns 0: go on; 1: fail, with errno set; 2: do half of it and die. */
static int fault(const char *call, const char *path) {
    const char *folder = setting("FAULT_FOLDER"), *skip = setting("FAULT_SKIP");
    const char *only = setting("FAULT_CALL"), *pattern = setting("FAULT_PATH");
    size_t length = strlen(folder);
    if (!length || !path || strncmp(path, folder, length) || path[length] != '/') return 0;
    if (*skip && strstr(path + length, skip)) return 0;
    if (*only && strcmp(only, call)) return 0;
    if (*pattern && fnmatch(pattern, path + length + 1, 0)) return 0;
    int now = __sync_add_and_fetch(&count, 1);
    const char *trace = setting("FAULT_TRACE");
    if (*trace) {
        char line[5000];
        int n = snprintf(line, sizeof line, "%s %s\n", call, path + length + 1);
        int file = syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file >= 0) { syscall(SYS_write, file, line, n); syscall(SYS_close, file); }
    }
    int at = atoi(setting("FAULT_AT"));
    if (!at || (*setting("FAULT_ON") ? now < at : now != at)) return 0;
    errno = atoi(setting("FAULT_ERROR"));
    return errno ? 1 : 2;
}

static int fault_of(const char *call, int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fault(call, path);
}

static int is_deadly(void) { return !*setting("FAULT_SIGNAL"); }

static void die(void) { kill(getpid(), is_deadly() ? SIGKILL : atoi(setting("FAULT_SIGNAL"))); }

#define OPEN(name, arguments)                                                         \
    {                                                                                 \
        REAL(name);                                                                   \
        mode_t mode = 0;                                                              \
        if (flags & (O_CREAT | O_TMPFILE)) {                                          \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        }                                                                             \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT)) switch (fault("open", path)) {     \
            case 1: return -1;                                                        \
            case 2: die();                                                            \
        }                                                                             \
        return real arguments;                                                        \
    }

int open(const char *path, int flags, ...) OPEN(open, (path, flags, mode))
int open64(const char *path, int flags, ...) OPEN(open64, (path, flags, mode))
int openat(int at, const char *path, int flags, ...) OPEN(openat, (at, path, flags, mode))
int openat64(int at, const char *path, int flags, ...) OPEN(openat64, (at, path, flags, mode))

ssize_t write(int file, const void *data, size_t n) {
    REAL(write);
    switch (fault_of("write", file)) {
        case 1: return -1;
        case 2: if (is_deadly()) real(file, data, n / 2); die();
    }
    return real(file, data, n);
}

#define PWRITE(name, offset_t)                                                        \
    ssize_t name(int file, const void *data, size_t n, offset_t at) {                 \
        REAL(name);                                                                   \
        switch (fault_of("write", file)) {                                            \
            case 1: return -1;                                                        \
            case 2: if (is_deadly()) real(file, data, n / 2, at); die();              \
        }                                                                             \
        return real(file, data, n, at);                                               \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SYNC(name)                                                                    \
    int name(int file) {                                                              \
        REAL(name);                                                                   \
        switch (fault_of("fsync", file)) { case 1: return -1; case 2: die(); }        \
        return real(file);                                                            \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    REAL(rename);
    switch (fault("rename", to)) { case 1: return -1; case 2: die(); }
    return real(from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    switch (fault("rename", to)) { case 1: return -1; case 2: die(); }
    return real(from_at, from, to_at, to);
}
