/* The port to a virus scanner. $CAIRN_TEST_SCANNER names the one to test, which must know the EICAR test file and take no more than 1 MiB; without it, clamd is started here, once
   behind a socket of the file system and once on a port, with a database that knows that file (scripts/lib/server). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/mem.h"
#include "gateway/ports/scanner.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB (1u << 20)
/* In two pieces, so that no scanner takes this program for what it describes. */
static const char eicar_a[] = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-", eicar_b[] = "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

static char dirs[2][64], *urls[3]; /* the list ends with NULL */
static size_t n_urls;

/* ---- content ---- */

/* `clean` bytes in pieces, with EICAR in the middle where it is wanted. */
struct content {
    size_t clean, piece, sent;
    bool infected;
    unsigned said; /* halves of EICAR that were given */
    int error;     /* after `clean` bytes, instead of an end */
    uint64_t asked;
};
static char zeros[MIB];

static int64_t next(void *ctx, const void **ret)
{
    struct content *c = ctx;
    c->asked++;
    if (c->infected && c->sent >= c->clean / 2 && c->said < 2) {
        *ret = c->said ? eicar_b : eicar_a;
        return (int64_t)strlen(c->said++ ? eicar_b : eicar_a);
    }
    size_t n = c->clean - c->sent < c->piece ? c->clean - c->sent : c->piece;
    *ret = zeros;
    c->sent += n;
    return n == 0 && c->error ? c->error : (int64_t)n;
}

struct outcome {
    int err;
    enum scan_verdict verdict;
    char signature[SCAN_SIGNATURE_MAX];
};

static struct outcome scan_at(const char *url, struct content *c, const atomic_bool *stop)
{
    struct scanner *s;
    struct outcome o = {.verdict = (enum scan_verdict)77};
    assert_int_equal(scanner_open(url, &s), 0);
    o.err = s->ops->scan(s, &(struct scan_source){next, c}, stop, &o.verdict, o.signature);
    s->ops->free(s);
    return o;
}

#define EACH_URL(url) for (char **url = urls; *url; url++)

/* ---- a real scanner ---- */

static void what_is_clean(void **state)
{
    (void)state;
    EACH_URL(url)
    {
        const size_t sizes[] = {0, 1, 1000, MIB - 1000};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct outcome o = scan_at(*url, &(struct content){.clean = sizes[i], .piece = 300000}, NULL);
            assert_int_equal(o.err, 0);
            assert_int_equal(o.verdict, SCAN_CLEAN);
            assert_string_equal(o.signature, "");
        }
    }
}

static void what_is_infected(void **state)
{
    (void)state;
    EACH_URL(url)
    {
        const size_t sizes[] = {0, 1000, MIB - 1000}; /* as a file of its own, and within another; cut by two pieces in any case */
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct outcome o = scan_at(*url, &(struct content){.clean = sizes[i], .piece = 4096, .infected = true}, NULL);
            assert_int_equal(o.err, 0);
            assert_int_equal(o.verdict, SCAN_INFECTED);
            assert_non_null(strstr(o.signature, "Eicar"));
        }
    }
}

static void what_is_too_large(void **state)
{
    (void)state;
    EACH_URL(url)
    {
        for (int i = 0; i < 5; i++) {
            struct content c = {.clean = 300 * (size_t)MIB, .piece = MIB};
            struct outcome o = scan_at(*url, &c, NULL);
            assert_int_equal(o.err, 0);
            assert_int_equal(o.verdict, SCAN_TOO_LARGE);
            assert_true(c.asked < 200); /* it is not sent to its end for nothing */
        }
    }
}

static void a_source_that_fails(void **state)
{
    (void)state;
    EACH_URL(url)
    {
        struct outcome o = scan_at(*url, &(struct content){.clean = 5000, .piece = 1000, .error = -EHOSTUNREACH}, NULL);
        assert_int_equal(o.err, -EHOSTUNREACH);
        o = scan_at(*url, &(struct content){.clean = 5000, .piece = 1000, .error = -EIO, .infected = true}, NULL); /* what was seen of it decides nothing */
        assert_int_equal(o.err, -EIO);
    }
}

static void *scan_many(void *arg)
{
    for (int i = 0; i < 10; i++) {
        bool infected = i % 2;
        struct outcome o = scan_at(arg, &(struct content){.clean = 100000, .piece = 10000, .infected = infected}, NULL);
        if (o.err || o.verdict != (infected ? SCAN_INFECTED : SCAN_CLEAN))
            return arg;
    }
    return NULL;
}

static void several_at_once(void **state)
{
    pthread_t threads[8];
    (void)state;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, scan_many, urls[(size_t)i % n_urls]), 0);
    for (int i = 0; i < 8; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

static void it_answers(void **state)
{
    (void)state;
    EACH_URL(url)
    {
        struct scanner *s;
        assert_int_equal(scanner_open(*url, &s), 0);
        assert_int_equal(s->ops->ping(s), 0);
        s->ops->free(s);
    }
}

static void it_is_stopped(void **state)
{
    (void)state;
    atomic_bool stop = true;
    EACH_URL(url)
    {
        struct outcome o = scan_at(*url, &(struct content){.clean = 1000, .piece = 10}, &stop);
        assert_int_equal(o.err, -ECANCELED);
    }
}

/* ---- faults: what a scanner that is away or broken does ---- */

struct broken {
    int fd;
    const char *answer; /* sizeof with its NUL; NULL: it just closes */
    char url[64];
    pthread_t thread;
};

static void *serve_broken(void *arg)
{
    struct broken *b = arg;
    char in[64];
    int fd = accept(b->fd, NULL, NULL);
    while (b->answer && recv(fd, in, sizeof in, 0) == sizeof in)
        ;
    if (b->answer)
        send(fd, b->answer, strlen(b->answer) + 1, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static struct outcome scan_broken(const char *answer, int *ret_ping)
{
    struct broken b = {.answer = answer};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    b.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(b.fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(b.fd, 1), 0);
    assert_int_equal(getsockname(b.fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(b.url, sizeof b.url, "clamd://127.0.0.1:%d", ntohs(addr.sin_port));
    struct outcome o = {0};
    assert_int_equal(pthread_create(&b.thread, NULL, serve_broken, &b), 0);
    if (ret_ping) {
        struct scanner *s;
        assert_int_equal(scanner_open(b.url, &s), 0);
        *ret_ping = s->ops->ping(s);
        s->ops->free(s);
    } else {
        o = scan_at(b.url, &(struct content){.clean = 10, .piece = 10}, NULL);
    }
    pthread_join(b.thread, NULL);
    close(b.fd);
    return o;
}

static void one_that_is_away(void **state)
{
    (void)state;
    const char *away[] = {"clamd:unix:/nonexistent/clamd.socket", "clamd://127.0.0.1:1"};
    for (int i = 0; i < 2; i++) {
        struct scanner *s;
        struct content c = {.clean = 10, .piece = 10};
        assert_int_equal(scan_at(away[i], &c, NULL).err, -EHOSTUNREACH);
        assert_int_equal(c.asked, 0);
        assert_int_equal(scanner_open(away[i], &s), 0);
        assert_int_equal(s->ops->ping(s), -EHOSTUNREACH);
        s->ops->free(s);
    }
    assert_int_equal(scan_broken(NULL, NULL).err, -EHOSTUNREACH);
}

static void one_that_says_something_else(void **state)
{
    int ping;
    (void)state;
    assert_int_equal(scan_broken("stream: Can't allocate memory ERROR", NULL).err, -EIO);
    assert_int_equal(scan_broken("", NULL).err, -EIO);
    assert_int_equal(scan_broken("OK", NULL).err, -EIO);
    scan_broken("PONGPONG", &ping);
    assert_int_equal(ping, -EIO);
}

/* ---- URLs ---- */

static void urls_are_checked(void **state)
{
    struct scanner *s;
    (void)state;
    const char *good[] = {"none", "clamd:unix:/run/clamd", "clamd://clamav", "clamd://10.0.0.1:3310", "clamd://[::1]", "clamd://[::1]:3310"};
    const char *bad[] = {"", "clamd:", "clamd:unix:", "clamd:unix:run/clamd", "clamd://", "clamd://:3310", "clamd://host:", "clamd://host:x", "clamd://host:3310/", "clamd://[::1", "clamd://[::1]3310",
                         "icap://host"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_null(scanner_url_wrong(good[i]));
        assert_int_equal(scanner_open(good[i], &s), 0);
        if (s)
            s->ops->free(s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_non_null(scanner_url_wrong(bad[i]));
        assert_true(scanner_open(bad[i], &s) < 0);
    }
    assert_int_equal(scanner_open(NULL, &s), 0);
    assert_null(s);
}

/* ---- the servers ---- */

static int run(const char *command)
{
    return system(command) == 0 ? 0 : -1; /* NOLINT: fixed words and folders of our own */
}

static int start(const char *options, size_t i)
{
    char line[256];
    strcpy(dirs[i], "/tmp/cairn-scanner-XXXXXX");
    if (!mkdtemp(dirs[i]))
        return -1;
    CLEANUP_FREE char *command = mem_printf("%s/scripts/lib/server start clamd %s StreamMaxLength=1M %s", SOURCE_DIR, dirs[i], options);
    CLEANUP_FREE char *file = mem_printf("%s/url", dirs[i]);
    if (run(command))
        return -1;
    FILE *f = fopen(file, "re");
    if (!f || !fgets(line, sizeof line, f))
        return -1;
    fclose(f);
    line[strcspn(line, "\n")] = 0;
    urls[n_urls++] = mem_strdup(line);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    const char *url = getenv("CAIRN_TEST_SCANNER");
    if (!url)
        return start("socket=unix", 0) || start("", 1) ? -1 : 0;
    urls[n_urls++] = mem_strdup(url);
    return 0;
}

static int teardown(void **state)
{
    int err = 0;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        if (!dirs[i][0])
            continue;
        CLEANUP_FREE char *command = mem_printf("%s/scripts/lib/server stop %s && rm -r %s", SOURCE_DIR, dirs[i], dirs[i]);
        err |= run(command);
    }
    for (size_t i = 0; i < n_urls; i++)
        free(urls[i]);
    return err;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers),
        cmocka_unit_test(what_is_clean),
        cmocka_unit_test(what_is_infected),
        cmocka_unit_test(what_is_too_large),
        cmocka_unit_test(a_source_that_fails),
        cmocka_unit_test(several_at_once),
        cmocka_unit_test(it_is_stopped),
        cmocka_unit_test(one_that_is_away),
        cmocka_unit_test(one_that_says_something_else),
        cmocka_unit_test(urls_are_checked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
