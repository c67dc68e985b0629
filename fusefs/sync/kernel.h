/* Telling the kernel that what it caches is no longer so (FUSE notifications).

   FUSE_NOTIFY_INVAL_ENTRY takes the kernel's lock of the directory, which a call in flight may hold while it waits for this very driver or for another mount: so it is
   never waited for long. When it cannot be done at once, the epoch is bumped (FUSE_NOTIFY_INC_EPOCH, Linux 6.16: every name the kernel holds must be looked up again;
   takes no lock) and the names of that directory get time-out 0 for a while (node.contended_until_ms). Where the kernel has no epochs, names are given time-outs of
   KERNEL_NAME_SECONDS_OLD at most, and that is waited out. */
#ifndef CAIRN_FUSEFS_SYNC_KERNEL_H
#define CAIRN_FUSEFS_SYNC_KERNEL_H
#include "fusefs/cache/replica.h"

#define KERNEL_FOREVER 86400.0
#define KERNEL_NAME_SECONDS_OLD 1.0
#define KERNEL_CONTENDED_MS 1000

struct fuse_session;
struct kernel;

enum kernel_what { KERNEL_NAME, KERNEL_ATTR, KERNEL_LISTING, KERNEL_DATA };
struct kernel_item {
    enum kernel_what what;
    uint64_t id;      /* node id; NAME: the directory's */
    uint64_t dir_ino; /* NAME: the directory's inode */
    int64_t off, len; /* DATA: len 0 is to the end */
    char name[NAME_LEN_MAX + 1];
};

struct kernel *kernel_new(struct replica *r);
/* Once the session is mounted and has answered INIT. */
void kernel_attach(struct kernel *k, struct fuse_session *se);
/* fuse_session_unmount(), when the session's loop has ended but other threads have not. It closes the descriptor, whose number goes to the next file that is opened: so who
   is writing is waited for, and nobody begins meanwhile. Afterwards the kernel need not be told anything. */
void kernel_unmount(struct kernel *k, struct fuse_session *se);
void kernel_free(struct kernel *k);
/* Around what else writes to the session outside of its loop, such as a late answer. False: it is unmounted, there is nothing to write nor to end. Waits while it is being
   unmounted. */
bool kernel_begin_write(struct kernel *k);
void kernel_end_write(struct kernel *k);
/* Returns when the kernel can no longer answer from the old state. Not to be called by a thread that answers a FUSE request. */
void kernel_invalidate(struct kernel *k, const struct kernel_item *items, size_t n);
/* The same, soon, by another thread: for FUSE handlers. */
void kernel_invalidate_later(struct kernel *k, const struct kernel_item *item);
/* From now on the kernel asks for every name again, before it believes it: at once, and also for one that it moves when it has the answer to a rename. False: this kernel has no epochs.
   For FUSE handlers. */
bool kernel_doubt_names(struct kernel *k);
/* Every name, attribute and listing; the pages of open files, or (all_data) of all. */
void kernel_empty(struct kernel *k, bool all_data);
/* How long the kernel may keep a name of this directory, in seconds, if all is trusted. */
double kernel_name_seconds(struct kernel *k, const struct node *dir);
bool kernel_ready(const struct kernel *k); /* attached: what it is told it can be told to forget */
bool kernel_has_epochs(const struct kernel *k);
/* Figures for the status: invalidations, and how many of them had to bump the epoch. */
void kernel_figures(const struct kernel *k, uint64_t *ret_items, uint64_t *ret_epochs);
#endif
