/* What is the same for every adapter. */
#include "gateway/ports/events.h"
#include "common/cleanup.h"
#include "common/cond.h"
#include "common/mem.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

struct confirm { /* of one message; belongs to the last who looks at it */
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool over, left_alone;
    int err;
};

static void confirm_free(struct confirm *c)
{
    pthread_cond_destroy(&c->came);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void confirm_come(void *ctx, int err)
{
    struct confirm *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->over = true;
    c->err = err;
    bool alone = c->left_alone;
    pthread_cond_signal(&c->came);
    pthread_mutex_unlock(&c->lock);
    if (alone)
        confirm_free(c);
}

int events_publish_confirmed(struct events *e, const struct events_message *m, unsigned seconds)
{
    struct confirm *c = mem_alloc(sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    cond_init(&c->came);
    int err = e->ops->publish(e, m, confirm_come, c);
    if (err) {
        confirm_free(c);
        return err;
    }
    struct timespec until = cond_deadline(seconds * INT64_C(1000));
    pthread_mutex_lock(&c->lock);
    while (!c->over && pthread_cond_timedwait(&c->came, &c->lock, &until) != ETIMEDOUT)
        ;
    bool over = c->over;
    err = over ? c->err : -EAGAIN;
    c->left_alone = !over;
    pthread_mutex_unlock(&c->lock);
    if (over)
        confirm_free(c);
    return err;
}
