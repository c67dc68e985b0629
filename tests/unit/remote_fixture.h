/* A gateway that answers what it is told to, and the driver's side of its protocol. */
#ifndef CAIRN_TESTS_REMOTE_FIXTURE_H
#define CAIRN_TESTS_REMOTE_FIXTURE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_http.h"
#include "fusefs/remote/remote.h"

struct gateway {
    struct fake_http http;
    pthread_mutex_t lock;
    /* the next answers */
    int status;
    const char *headers, *text;
    size_t text_len;
    int too_many; /* 429s first */
    /* tokens: the one that is good, and how often it was renewed */
    char good[32];
    int renewals, lost_renewals;
    char last_key[64];
    bool keys_differ;
    char last_path[1024];
    int questions; /* for places, of either kind */
    bool frozen;
    pthread_cond_t thaw;
    int asked; /* since it is */
};

static inline void renew(struct gateway *g, const struct fake_request *req, struct fake_answer *a)
{
    if (g->last_key[0] && strcmp(g->last_key, req->idempotency_key) != 0)
        g->keys_differ = true;
    strcpy(g->last_key, req->idempotency_key);
    if (g->lost_renewals > 0) {
        g->lost_renewals--;
        a->status = 503;
        return;
    }
    g->renewals++;
    snprintf(g->good, sizeof g->good, "token-%d", g->renewals);
    buf_appendf(&a->body, "{\"accessToken\":\"%s\",\"refreshToken\":\"refresh-%d\",\"tokenType\":\"Bearer\",\"expiresIn\":900}", g->good, g->renewals);
}

static inline void handle(void *ctx, const struct fake_request *req, struct fake_answer *a)
{
    struct gateway *g = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    g->asked++;
    while (g->frozen)
        pthread_cond_wait(&g->thaw, &g->lock);
    if (strstr(req->path, "/auth/refresh")) {
        renew(g, req, a);
        return;
    }
    if (g->good[0] && (strncmp(req->authorization, "Bearer ", 7) != 0 || strcmp(req->authorization + 7, g->good) != 0)) {
        a->status = 401;
        buf_append_str(&a->body, "{\"code\":\"token-expired\",\"detail\":\"the token is too old\"}");
        return;
    }
    if (g->too_many > 0) {
        g->too_many--;
        a->status = 429;
        a->headers = "Retry-After: 0\r\n";
        return;
    }
    strcpy(g->last_path, req->path);
    g->questions += strstr(req->path, "/where") || strstr(req->path, "/places");
    a->status = g->status;
    a->headers = g->headers;
    buf_append(&a->body, g->text, g->text_len ? g->text_len : strlen(g->text));
}

struct fixture {
    struct gateway g;
    struct remote *r;
    int saved;
};

static inline void saved(void *ctx, const char *access, const char *refresh)
{
    struct fixture *f = ctx;
    assert_non_null(access);
    assert_non_null(refresh);
    f->saved++;
}

static const char mounted[] = "{\"session\":\"01890000-0000-7000-8000-000000000001\",\"drive\":\"01890000-0000-7000-8000-000000000002\","
                              "\"name\":\"d\",\"role\":\"owner\",\"root\":1,\"seq\":1,\"used\":0,\"quota\":null,\"inoFirst\":100,\"inoCount\":100,"
                              "\"leaseMs\":1800,\"heartbeatMs\":500,\"inlineMax\":65536,\"batchMax\":16}";

static inline void answer(struct fixture *f, int status, const char *headers, const char *text)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    f->g.status = status;
    f->g.headers = headers;
    f->g.text = text;
    f->g.text_len = 0;
}

/* As a driver that has just started. */
static inline void connect_anew(struct fixture *f)
{
    char url[64];
    remote_free(f->r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", f->g.http.port);
    f->r = remote_new(url, "token-0", "refresh-0", saved, f);
    answer(f, 200, NULL, mounted);
    struct remote_mount_info info;
    struct uuid journal;
    uuid_new(&journal);
    assert_int_equal(remote_mount(f->r, "d", "test", &journal, false, &info), 0);
    assert_int_equal(info.batch_max, 16);
}

static inline int begin(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    pthread_mutex_init(&f->g.lock, NULL);
    pthread_cond_init(&f->g.thaw, NULL);
    f->g.http.handle = handle;
    f->g.http.ctx = &f->g;
    fake_start(&f->g.http, 0);
    connect_anew(f);
    *state = f;
    return 0;
}

static inline void freeze(struct fixture *f, bool frozen)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    f->g.frozen = frozen;
    f->g.asked = 0;
    pthread_cond_broadcast(&f->g.thaw);
}

static inline int end(void **state)
{
    struct fixture *f = *state;
    freeze(f, false);
    remote_free(f->r);
    fake_stop(&f->g.http);
    free(f);
    return 0;
}

#define ATTR "{\"ino\":7,\"mode\":33188,\"nlink\":1,\"uid\":0,\"gid\":0,\"size\":5,\"atime\":1,\"mtime\":2,\"ctime\":3,\"btime\":4,\"version\":9,\"chunkSize\":65536}"
#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
#endif
