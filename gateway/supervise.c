#include "gateway/supervise.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY UINT32_MAX

struct child {
    pid_t pid; /* 0: it does not run */
    int ready_fd; /* the reading end; -1 once it was ready, or has ended */
    int64_t start_at; /* CLOCK_BOOTTIME ms; where it does not run */
    unsigned delay_ms;
    bool told; /* to end */
};

/* All of it belongs to the one thread. */
struct supervisor {
    const struct supervision *cfg;
    struct child *children;
    int signals; /* signalfd */
    sigset_t before;
    bool ending, ever_ready, roll_again;
    unsigned rolling; /* whose successor is awaited; NOBODY: no replacement is under way */
    int status;
};

/* ---- one process ---- */

static _Noreturn void become(struct supervisor *s, unsigned i, int ready_fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it died before that */
        _exit(1);
    close(s->signals);
    for (unsigned k = 0; k < s->cfg->n; k++)
        if (s->children[k].ready_fd >= 0)
            close(s->children[k].ready_fd);
    sigprocmask(SIG_SETMASK, &s->before, NULL);
    exit(s->cfg->run(i, ready_fd, s->cfg->ctx));
}

static void start(struct supervisor *s, unsigned i)
{
    struct child *c = &s->children[i];
    pid_t parent = getpid();
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            close(ready[0]);
            become(s, i, ready[1], parent);
        }
        close(ready[1]);
        if (pid > 0) {
            *c = (struct child){.pid = pid, .ready_fd = ready[0], .delay_ms = c->delay_ms};
            return;
        }
        close(ready[0]);
    }
    log_error("process %u cannot be started: %s", i + 1, strerror(errno));
    c->start_at = clock_boot_ms() + (int64_t)c->delay_ms;
}

static void tell(struct supervisor *s, unsigned i)
{
    struct child *c = &s->children[i];
    c->told = true;
    if (c->pid)
        kill(c->pid, SIGTERM);
}

static void close_ready(struct child *c)
{
    if (c->ready_fd >= 0)
        close(c->ready_fd);
    c->ready_fd = -1;
}

/* ---- all of them ---- */

static void end_all(struct supervisor *s)
{
    s->ending = true;
    for (unsigned i = 0; i < s->cfg->n; i++)
        tell(s, i);
}

static bool all_ended(const struct supervisor *s)
{
    for (unsigned i = 0; i < s->cfg->n; i++)
        if (s->children[i].pid)
            return false;
    return true;
}

/* Replaces the next one that runs, from `i` on. */
static void roll(struct supervisor *s, unsigned i)
{
    while (i < s->cfg->n && !s->children[i].pid)
        i++;
    if (i == s->cfg->n && s->roll_again) {
        s->roll_again = false;
        i = 0;
    }
    s->rolling = i < s->cfg->n ? i : NOBODY;
    if (i < s->cfg->n)
        tell(s, i);
    else
        log_info("all processes are replaced");
}

static void is_ready(struct supervisor *s, unsigned i)
{
    struct child *c = &s->children[i];
    close_ready(c);
    c->delay_ms = s->cfg->delay_min_ms;
    s->ever_ready = true;
    if (s->rolling == i && !c->told)
        roll(s, i + 1);
}

static void look_whether_ready(struct supervisor *s, unsigned i)
{
    char byte;
    ssize_t n = read(s->children[i].ready_fd, &byte, 1);
    if (n == 1)
        is_ready(s, i);
    else if (n == 0) /* it ends: SIGCHLD follows */
        close_ready(&s->children[i]);
}

static void has_ended(struct supervisor *s, unsigned i, int how)
{
    struct child *c = &s->children[i];
    bool in_order = WIFEXITED(how) && WEXITSTATUS(how) == 0;
    if (c->ready_fd >= 0)
        look_whether_ready(s, i); /* it may have been, in between */
    bool was_told = c->told;
    close_ready(c);
    c->pid = 0;
    c->told = false;
    if (s->ending) {
        if (!in_order)
            s->status = 1;
        return;
    }
    if (WIFSIGNALED(how))
        log_error("process %u was ended by signal %d", i + 1, WTERMSIG(how));
    else if (!in_order || !was_told)
        log_error("process %u ended with %d", i + 1, WEXITSTATUS(how));
    if (!s->ever_ready) {
        s->status = 1;
        end_all(s);
        return;
    }
    c->start_at = clock_boot_ms() + (was_told ? 0 : (int64_t)c->delay_ms);
    c->delay_ms = c->delay_ms * 2 < s->cfg->delay_max_ms ? c->delay_ms * 2 : s->cfg->delay_max_ms;
}

static void reap(struct supervisor *s)
{
    for (unsigned i = 0; i < s->cfg->n; i++) {
        int how;
        pid_t pid = s->children[i].pid;
        if (pid && waitpid(pid, &how, WNOHANG) == pid)
            has_ended(s, i, how);
    }
}

static void take_signal(struct supervisor *s)
{
    struct signalfd_siginfo sig;
    if (read(s->signals, &sig, sizeof sig) != sizeof sig)
        return;
    if (sig.ssi_signo == SIGCHLD) {
        reap(s);
    } else if (sig.ssi_signo == SIGHUP) {
        if (s->rolling != NOBODY)
            s->roll_again = true;
        else if (!s->ending)
            roll(s, 0);
    } else {
        end_all(s);
    }
}

/* ms until the next start that is due, -1 none; starts what is due. */
static int start_due(struct supervisor *s)
{
    int64_t now = clock_boot_ms(), next = INT64_MAX;
    for (unsigned i = 0; i < s->cfg->n && !s->ending; i++) {
        struct child *c = &s->children[i];
        if (!c->pid && c->start_at <= now)
            start(s, i);
        if (!c->pid && c->start_at < next)
            next = c->start_at;
    }
    return next == INT64_MAX ? -1 : next <= now ? 1 : (int)(next - now);
}

static void wait_and_act(struct supervisor *s, struct pollfd *fds)
{
    int patience = start_due(s);
    fds[0] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    for (unsigned i = 0; i < s->cfg->n; i++)
        fds[i + 1] = (struct pollfd){.fd = s->children[i].ready_fd, .events = POLLIN};
    if (poll(fds, s->cfg->n + 1, patience) <= 0)
        return;
    for (unsigned i = 0; i < s->cfg->n; i++)
        if (fds[i + 1].revents && s->children[i].ready_fd >= 0)
            look_whether_ready(s, i);
    if (fds[0].revents)
        take_signal(s);
}

int supervise_run(const struct supervision *cfg)
{
    struct supervisor s = {.cfg = cfg, .rolling = NOBODY};
    sigset_t taken;
    sigemptyset(&taken);
    for (const int *sig = (const int[]){SIGTERM, SIGINT, SIGHUP, SIGCHLD, 0}; *sig; sig++)
        sigaddset(&taken, *sig);
    sigprocmask(SIG_BLOCK, &taken, &s.before);
    s.signals = signalfd(-1, &taken, SFD_CLOEXEC);
    if (s.signals < 0) {
        log_error("signalfd: %s", strerror(errno));
        return 1;
    }
    CLEANUP_FREE struct pollfd *fds = mem_calloc(cfg->n + 1, sizeof *fds);
    CLEANUP_FREE struct child *children = mem_calloc(cfg->n, sizeof *children);
    s.children = children;
    for (unsigned i = 0; i < cfg->n; i++)
        children[i] = (struct child){.ready_fd = -1, .delay_ms = cfg->delay_min_ms};
    while (!s.ending || !all_ended(&s))
        wait_and_act(&s, fds);
    close(s.signals);
    sigprocmask(SIG_SETMASK, &s.before, NULL);
    return s.status;
}
