/* What births and deaths of names in one transaction come to, so that each table is written once: of a name that dies and is born again several times, what the store had ends with
   the first death, what lived only within the transaction has a past and no present, and what is born last stays. */
#ifndef CAIRN_GATEWAY_ADAPTERS_DENTRY_FOLD_H
#define CAIRN_GATEWAY_ADAPTERS_DENTRY_FOLD_H
#include "gateway/core/rows.h"

struct dentry_deaths { /* some of the events, borrowed */
    const struct dentry_event **rows;
    size_t n;
};
struct dentry_lives {
    struct dentry_life {
        const struct dentry_event *birth; /* borrowed */
        uint64_t died;
    } *rows;
    size_t n;
};
struct dentry_fold {
    struct dentry_deaths deaths; /* of names that the store has: at most one for each name */
    struct dentry_lives lives;   /* born and dead within the transaction, of those that were ever seen: born before they died */
    struct dentry_deaths births; /* of names that stay: at most one for each */
    int err;                     /* -EIO: they contradict each other */
};
struct dentry_fold dentry_fold(const struct dentry_event *events, size_t n);
void dentry_fold_fini(struct dentry_fold *f);
#endif
