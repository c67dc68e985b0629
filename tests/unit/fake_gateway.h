/* A gateway within the test: what content.c needs of remote.h and opqueue.h, kept in memory, strict about what it is sent, with faults on order. */
#ifndef CAIRN_TESTS_FAKE_GATEWAY_H
#define CAIRN_TESTS_FAKE_GATEWAY_H
#include "fusefs/remote/remote.h"
#include "fusefs/upload/opqueue.h"

struct gw_counts {
    unsigned reads, gets, puts, asks, batches, conflicts, late_appends;
    uint64_t put_bytes;
};
extern struct gw_counts gw_counts; /* since gw_reset_counts */

void gw_reset(void);        /* an empty drive */
void gw_reset_counts(void);
struct attr gw_create(uint64_t ino);  /* an empty file, version 0 */
/* Another mount's commit: the whole content. Returns the new attributes. */
struct attr gw_write(uint64_t ino, const void *bytes, uint64_t size, uint32_t chunk_size);
struct attr gw_append(uint64_t ino, const void *bytes, uint64_t n);
void gw_delete(uint64_t ino);
struct attr gw_attr(uint64_t ino);
uint64_t gw_last_ino(void);           /* the newest inode: a conflict's sibling */
/* The content of a version (0: newest) as malloc'd bytes. */
void *gw_content(uint64_t ino, uint64_t version, uint64_t *ret_size);
void gw_forget_chunks(void);          /* the drive loses every chunk that no newest version names */

/* Faults */
extern _Atomic bool gw_away;          /* nothing answers */
extern _Atomic bool gw_lose_answer;   /* the next batch is applied, and nobody is told */
extern _Atomic int gw_refuse;         /* errno for the next commit, once */
extern _Atomic unsigned gw_delay_us;  /* of every chunk_get and put */
extern _Atomic bool gw_damage;        /* the next chunk arrives damaged */
#endif
