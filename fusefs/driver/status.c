/* What the mount says of itself (DRIVER_STATUS_XATTR). */
#include "fusefs/driver/mount.h"
#include "common/clock.h"
#include "common/jsonx.h"

#include <unistd.h>

char *status_json(struct mount *m)
{
    struct store_status st;
    char session[UUID_TEXT], drive[UUID_TEXT], since[CLOCK_TEXT];
    uint64_t items, epochs;
    struct remote_direct direct;
    store_status(m->store, &st);
    kernel_figures(m->kernel, &items, &epochs);
    uuid_text(&m->info->session, session);
    uuid_text(&m->info->drive, drive);
    clock_format_rfc3339(m->started_ns, since);
    CLEANUP_JSON json_t *o = json_object();
    json_object_set_new(o, "drive", json_string(m->info->name));
    json_object_set_new(o, "driveId", json_string(drive));
    json_object_set_new(o, "url", json_string(m->options.url));
    json_object_set_new(o, "device", json_string(m->options.device));
    json_object_set_new(o, "role", json_string(m->info->role));
    json_object_set_new(o, "session", json_string(session));
    json_object_set_new(o, "since", json_string(since));
    json_object_set_new(o, "online", json_boolean(sync_online(m->sync)));
    json_object_set_new(o, "lease", json_boolean(sync_trusted(m->sync)));
    json_object_set_new(o, "readOnly", json_boolean(m->options.read_only));
    json_object_set_new(o, "writeback", json_boolean(m->options.writeback));
    json_object_set_new(o, "cacheDir", json_string(m->options.cache_dir));
    remote_direct_figures(m->remote, &direct);
    json_object_set_new(o, "direct", json_string(direct.state));
    json_object_set_new(o, "notices", sync_notices(m->sync));
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"seq", sync_seq(m->sync)},           {"cachedBytes", st.cached_bytes},       {"dirtyBytes", st.dirty_bytes},
        {"dirtyFiles", st.dirty_files},       {"uploadingBytes", st.uploading_bytes}, {"uploadedBytes", st.uploaded_bytes},
        {"pendingOperations", opqueue_pending(m->ops)}, {"knownInodes", replica_count(m->replica)},
        {"invalidations", items},             {"pid", (uint64_t)getpid()},
        {"epochs", epochs},                   {"directFetchedBytes", direct.fetched}, {"directSentBytes", direct.sent},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(o, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    struct buf text = {0};
    jsonx_dump(o, &text);
    return buf_detach(&text);
}
