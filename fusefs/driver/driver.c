#include "fusefs/driver/mount.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

#include <limits.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define MAX_THREADS 64u
#define DEFAULT_DIRS 16 /* mounts of one drive on one machine, each with a cache folder of its own */

static void init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    const unsigned wanted = FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                            FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPLICIT_INVAL_DATA;
    /* never FUSE_CAP_WRITEBACK_CACHE: with it the kernel ignores a remote change of size */
    conn->want = (conn->want & ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE)) | (wanted & conn->capable);
    conn->max_write = 1 << 20;
    conn->max_readahead = 1 << 20;
    conn->max_background = 64;
    conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops operations = {
    .init = init,
    .lookup = names_lookup,
    .forget = names_forget,
    .forget_multi = names_forget_multi,
    .getattr = attrs_getattr,
    .setattr = attrs_setattr,
    .readlink = names_readlink,
    .mknod = names_mknod,
    .mkdir = names_mkdir,
    .unlink = names_unlink,
    .rmdir = names_rmdir,
    .symlink = names_symlink,
    .rename = names_rename,
    .link = names_link,
    .open = files_open,
    .create = names_create,
    .read = files_read,
    .write = files_write,
    .flush = files_flush,
    .release = files_release,
    .fsync = files_fsync,
    .fallocate = files_fallocate,
    .lseek = files_lseek,
    .copy_file_range = files_copy,
    .opendir = dirs_opendir,
    .readdir = dirs_readdir,
    .readdirplus = dirs_readdirplus,
    .releasedir = dirs_releasedir,
    .fsyncdir = dirs_fsyncdir,
    .statfs = attrs_statfs,
    .setxattr = xattrs_set,
    .getxattr = xattrs_get,
    .listxattr = xattrs_list,
    .removexattr = xattrs_remove,
    .getlk = locks_getlk,
    .setlk = locks_setlk,
    .flock = locks_flock,
};

/* In order of seq, before the caller is woken. */
static void on_result(void *ctx, const struct op *op, const struct op_result *res)
{
    struct mount *m = ctx;
    if (res->error)
        return;
    replica_apply_result(m->replica, op, res);
    if (m->sync && op->kind != OP_LOCK)
        sync_own(m->sync, res->seq);
}

/* ---- setting up ---- */

static int default_cache_dir(const struct driver_options *o, unsigned n, char ret[PATH_MAX])
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct hash h;
    char hex[HASH_HEX_LEN + 1];
    CLEANUP_FREE char *what = mem_printf("%s %s", o->url, o->drive);
    hash_bytes(what, strlen(what), &h);
    hash_hex(&h, hex);
    hex[12] = 0;
    int len = base && base[0] == '/' ? snprintf(ret, PATH_MAX, "%s/cairn/%s-%u", base, hex, n)
                                     : snprintf(ret, PATH_MAX, "%s/.cache/cairn/%s-%u", home && home[0] ? home : "/var/cache", hex, n);
    return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* The cache folder, made and locked: the one that was asked for, else the first default one that no other mount uses. */
static int prepare_cache(struct mount *m, struct uuid *ret_journal)
{
    static char chosen[PATH_MAX];
    struct driver_options *o = &m->options;
    int err = -EBUSY;
    if (o->cache_dir && o->cache_dir[0]) {
        err = store_prepare(o->cache_dir, ret_journal);
    } else {
        for (unsigned n = 1; n <= DEFAULT_DIRS && err == -EBUSY; n++) {
            err = default_cache_dir(o, n, chosen);
            if (!err)
                err = store_prepare(chosen, ret_journal);
        }
        o->cache_dir = chosen;
    }
    if (err == -EBUSY)
        log_error("the cache folder %s is used by another mount: give this one another with --cache-dir", o->cache_dir);
    else if (err)
        log_error("the cache folder %s cannot be used: %s", o->cache_dir, strerror(-err));
    return err;
}

static int connect_gateway(struct mount *m, const struct uuid *journal)
{
    struct driver_options *o = &m->options;
    struct remote_mount_info info;
    m->remote = remote_new(o->url, o->access_token, o->refresh_token, o->on_tokens, o->ctx);
    remote_set_direct(m->remote, o->direct);
    remote_set_timeout(m->remote, m->timeout_ms);
    if (o->token_store)
        remote_share_tokens(m->remote, o->token_store);
    int err = remote_mount(m->remote, o->drive, o->device, journal, o->read_only, &info);
    if (!err) {
        m->info = remote_info(m->remote);
        m->ino_next = info.ino_first;
        m->ino_end = info.ino_first + info.ino_count;
        if (strcmp(info.role, "viewer") == 0)
            o->read_only = true;
        return 0;
    }
    const struct remote_problem *p = remote_problem();
    if (err == -EHOSTUNREACH)
        log_error("the gateway at %s does not answer: is the address right, and is it running?", o->url);
    else
        log_error("drive %s at %s cannot be mounted: %s", o->drive, o->url, p->detail[0] ? p->detail : strerror(-err));
    return err;
}

static int open_session(struct mount *m)
{
    struct driver_options *o = &m->options;
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    CLEANUP_FREE char *options = mem_printf("fsname=cairn:%s,subtype=cairn,default_permissions%s%s%s%s", m->info->name, o->allow_other ? ",allow_other" : "",
                                            o->read_only ? ",ro" : "", o->fuse_options ? "," : "", o->fuse_options ? o->fuse_options : "");
    fuse_opt_add_arg(&args, "cairn");
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, options);
    if (o->debug)
        fuse_opt_add_arg(&args, "-d");
    m->session = fuse_session_new(&args, &operations, sizeof operations, m);
    fuse_opt_free_args(&args);
    if (!m->session) {
        log_error("FUSE refused the options: %s", options);
        return -EINVAL;
    }
    if (fuse_session_mount(m->session, o->mountpoint) != 0) {
        log_error("%s cannot be mounted: is /dev/fuse there, and fusermount3 (package fuse3)?", o->mountpoint);
        fuse_session_destroy(m->session);
        m->session = NULL;
        return -EIO;
    }
    return 0;
}

/* What needs threads; after the fork. */
static int start(struct mount *m)
{
    m->started_ns = clock_wall_ns();
    m->ops = opqueue_new(m->remote, m->timeout_ms, 0);
    m->replica = replica_new(m->info->root);
    m->kernel = kernel_new(m->replica);
    opqueue_on_result(m->ops, on_result, m);
    m->late = pool_new(1, "late");
    m->locks = locks_new(m);
    m->history = history_new(m);
    struct store_config store = {.dir = m->options.cache_dir, .max_bytes = m->options.cache_size, .remote = m->remote, .ops = m->ops,
                                 .writeback = m->options.writeback, .read_only = m->options.read_only, .timeout_ms = m->timeout_ms};
    int err = store_open(&store, &m->store);
    if (err) {
        log_error("the cache folder %s cannot be opened: %s", m->options.cache_dir, strerror(-err));
        return err;
    }
    err = open_session(m);
    if (err)
        return err;
    struct sync_config sync = {.remote = m->remote, .replica = m->replica, .kernel = m->kernel, .store = m->store, .strict = m->options.strict,
                               .on_unlocked = locks_unlocked, .on_session_lost = locks_session_lost, .ctx = m};
    m->sync = sync_start(&sync);
    return 0;
}

/* The store is closed when nobody has a content any more: not the applier of changes, and no node, which keeps one that could not be sent when it was closed. */
static void stop(struct mount *m)
{
    m->stopping = true;
    pool_free(m->late);
    sync_stop(m->sync);
    locks_free(m->locks);
    replica_drop_contents(m->replica);
    store_close(m->store);
    opqueue_free(m->ops);
    if (m->sync)
        remote_unmount(m->remote);
    sync_free(m->sync);
    kernel_free(m->kernel); /* whose threads have the session until they end */
    if (m->session)
        fuse_session_destroy(m->session);
    history_free(m->history);
    replica_free(m->replica);
    remote_free(m->remote);
}

struct starter {
    struct mount *mount;
    int ready_fd; /* told once the mount answers; -1: nobody waits */
};

/* From here on nobody may be waiting at the other end of stdin and stdout, and a pipe that stays open keeps its reader waiting for ever. Messages go on to a file if
   stderr is one, else into the cache folder. */
static void leave_terminal(const struct mount *m)
{
    struct stat st;
    CLEANUP_FREE char *log = mem_printf("%s/driver.log", m->options.cache_dir);
    CLEANUP_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP_CLOSE int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
    }
    if (fstat(STDERR_FILENO, &st) == 0 && !S_ISREG(st.st_mode) && (fd >= 0 || null >= 0))
        dup2(fd >= 0 ? fd : null, STDERR_FILENO);
}

/* The kernel sends its first request once INIT is answered: when statfs comes back, the mount is up and the kernel can be told things. So it is where the answer is an error, for
   want of a gateway; but not where the kernel gives it, for want of us. */
static bool is_up(const char *mountpoint)
{
    struct statvfs st;
    return statvfs(mountpoint, &st) == 0 || (errno != ENOTCONN && errno != ECONNABORTED);
}

static void *wait_until_up(void *arg)
{
    struct starter *s = arg;
    bool up = is_up(s->mount->options.mountpoint);
    if (up)
        kernel_attach(s->mount->kernel, s->mount->session);
    if (s->ready_fd >= 0) {
        if (up)
            leave_terminal(s->mount);
        ssize_t told = up ? write(s->ready_fd, "y", 1) : 0;
        (void)told; /* the parent is gone: nobody to tell */
        close(s->ready_fd);
    }
    return NULL;
}

static int serve(struct mount *m, int ready_fd)
{
    int err = start(m);
    if (err) {
        stop(m);
        return 1;
    }
    pthread_t thread;
    struct starter starter = {m, ready_fd};
    if (pthread_create(&thread, NULL, wait_until_up, &starter))
        abort();
    fuse_set_signal_handlers(m->session);
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(loop, MAX_THREADS);
    fuse_loop_cfg_set_idle_threads(loop, MAX_THREADS);
    fuse_loop_cfg_set_clone_fd(loop, 0);
    err = fuse_session_loop_mt(m->session, loop);
    fuse_loop_cfg_destroy(loop);
    fuse_remove_signal_handlers(m->session);
    kernel_unmount(m->kernel, m->session);
    pthread_join(thread, NULL);
    stop(m);
    return err < 0 ? 1 : 0;
}

/* The child serves; the parent waits until the mount answers, or the child has said on stderr what was wrong. */
static int serve_in_background(struct mount *m)
{
    int fds[2];
    if (pipe(fds) < 0)
        return 1;
    pid_t child = fork();
    if (child < 0) {
        log_error("no process can be started: %s", strerror(errno));
        return 1;
    }
    if (child > 0) {
        char c;
        close(fds[1]);
        ssize_t n = read(fds[0], &c, 1);
        close(fds[0]);
        if (n == 1)
            return 0;
        waitpid(child, NULL, 0);
        return 1;
    }
    close(fds[0]);
    setsid();
    if (chdir("/") < 0)
        _exit(1);
    int code = serve(m, fds[1]);
    _exit(code);
}

int driver_run(const struct driver_options *o)
{
    struct mount *m = mem_alloc(sizeof *m);
    struct uuid journal;
    m->options = *o;
    m->timeout_ms = (o->timeout_s ? o->timeout_s : 30) * 1000;
    pthread_mutex_init(&m->ino_lock, NULL);
    if (geteuid() != 0 && !o->has_uid) {
        m->options.uid = geteuid();
        m->options.gid = getegid();
        m->options.has_uid = m->options.has_gid = true;
    }
    signal(SIGPIPE, SIG_IGN);
    int err = prepare_cache(m, &journal);
    if (!err)
        err = connect_gateway(m, &journal);
    int code = err ? 1 : o->foreground ? serve(m, -1) : serve_in_background(m);
    pthread_mutex_destroy(&m->ino_lock);
    free(m);
    return code;
}
