#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/uploads.h"

#include <uthash.h>

struct parked {
    struct call *call;
    enum call_state (*again)(struct call *c);
    struct parked *next;
};

struct claim {
    struct uuid id;
    struct parked *parked;
    UT_hash_handle hh;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static struct claim *claims;

bool upload_claim(const struct uuid *id, struct call *c, enum call_state (*again)(struct call *c))
{
    struct claim *claim;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    HASH_FIND(hh, claims, id, sizeof *id, claim);
    if (claim) {
        struct parked *p = mem_alloc(sizeof *p);
        *p = (struct parked){c, again, claim->parked};
        claim->parked = p;
        return false;
    }
    claim = mem_alloc(sizeof *claim);
    claim->id = *id;
    HASH_ADD(hh, claims, id, sizeof claim->id, claim);
    return true;
}

static void run_again(void *arg)
{
    struct parked *p = arg;
    if (p->again(p->call) == CALL_DONE)
        call_finish(p->call);
    free(p);
}

void upload_release(const struct uuid *id)
{
    struct claim *claim;
    pthread_mutex_lock(&lock);
    HASH_FIND(hh, claims, id, sizeof *id, claim);
    struct parked *p = claim ? claim->parked : NULL;
    if (claim)
        HASH_DEL(claims, claim);
    pthread_mutex_unlock(&lock);
    free(claim);
    while (p) {
        struct parked *next = p->next;
        pool_run(http_server_pool(app_of(p->call)->server), run_again, p);
        p = next;
    }
}
