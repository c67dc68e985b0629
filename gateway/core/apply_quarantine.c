/* A version turned out to be infected: nobody reads it any more. Its rows and chunks stay, as evidence and because older versions may share them. */
#include "gateway/core/apply_internal.h"

/* Told twice it changes nothing more, and takes no seq. Who holds the file open, or its pages, is told that all of the content changed. */
int apply_quarantine(struct apply *a)
{
    struct inode_row *i;
    const struct version_row *v;
    const struct dentry_row *name;
    int err = apply_inode(a, a->op->ino, &i);
    int name_err = apply_entry_of(a, a->op->ino, &name);
    int v_err = rows_version(a->r, a->op->ino, a->op->version, &v);
    if (a->again || v_err == -EAGAIN) {
        a->again = true;
        return -EAGAIN;
    }
    if (err || name_err || v_err)
        return err ? err : name_err ? name_err : v_err;
    a->res->ino = a->op->ino;
    if (v->quarantined)
        return 0;

    apply_begin(a);
    rows_version_quarantine(a->r, a->op->ino, a->op->version);
    if (i->attr.version == a->op->version) {
        apply_touch_inode(a, i);
        i->attr.quarantined = true;
        a->res->content_ino = i->attr.ino;
        a->res->content_to = i->attr.size;
    }
    apply_finish(a, 'a', a->op->ino, name ? &(struct apply_where){.parent = name->parent, .name = name->name} : &(struct apply_where){0});
    return 0;
}
