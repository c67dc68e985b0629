/* What the verbs of the command line share. A verb returns its exit status: 0 done, 1 failed, 2 wrong usage; whatever went wrong has then been said on
   stderr, in a sentence that names it. Everything here is for the one main thread unless it says otherwise. */
#ifndef CAIRN_FUSEFS_CLI_CLI_H
#define CAIRN_FUSEFS_CLI_CLI_H
#include "common/buf.h"
#include "fusefs/remote/remote.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct verb {
    const char *name, *usage /* behind the name */, *summary /* one line */, *help /* the options, or NULL */;
    int (*run)(const struct verb *self, int argc, char **argv); /* argv[0] is the verb */
};
/* Runs argv[1] of the table; answers --help and --version; suggests where the verb is unknown. */
int cli_run(const struct verb *const *verbs, size_t n, int argc, char **argv);
/* The verb nearest to what was typed, NULL if none is near. */
const struct verb *cli_nearest(const struct verb *const *verbs, size_t n, const char *typed);

/* ---- args.c ---- */
enum cli_kind { CLI_FLAG /* bool */, CLI_TEXT /* const char * */, CLI_NUMBER /* uint64_t */, CLI_SIZE /* uint64_t, 10G */ };
struct cli_option {
    const char *name; /* without -- */
    char letter;      /* 0: none */
    enum cli_kind kind;
    void *value;
};
/* Takes the options out of argv, which may stand anywhere before "--"; what remains is argv[0 … n). Returns n, at least `least` and at most `most` (-1: any),
   or -EINVAL after a message. */
int cli_parse(const struct verb *self, int argc, char **argv, const struct cli_option *options, size_t n_options, int least, int most);
int cli_usage(const struct verb *self, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* says it; CLI_USAGE */
/* --direct: "auto" or "off"; -EINVAL after a message. */
int cli_parse_direct(const struct verb *self, const char *text, bool *ret);
int cli_parse_size(const char *text, uint64_t *ret);   /* "10G", "512M", "1048576"; powers of 1024; -EINVAL */
int cli_parse_number(const char *text, uint64_t *ret); /* -EINVAL */

/* ---- output.c ---- */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* a line on stderr; CLI_FAILED */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Says why a call of remote.h failed: "WHAT: …" and what to do. Returns CLI_FAILED. */
int cli_fail_remote(struct remote *r, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int cli_print_json(const json_t *v); /* on stdout, indented; CLI_FAILED if stdout is gone */
int cli_finish_output(void);         /* flushes stdout: CLI_DONE, or CLI_FAILED after a message */
/* A name from elsewhere, harmless on a terminal. Static ring of 4 texts. */
const char *cli_name(const char *name);
const char *cli_size(uint64_t bytes, char ret[32]); /* "1.5 GiB" */
const char *cli_text(const json_t *o, const char *key); /* "" where it is not a string */
uint64_t cli_number(const json_t *o, const char *key);  /* 0 where it is none */
bool cli_is_away(const json_t *drive);                  /* one of GET /drives, whose database cannot be reached */

/* ---- connect.c ---- */
#define CLI_URL_MAX 1024
/* The gateway to talk to: url, else $CAIRN_URL, else that of the last login. NULL after a message. */
struct remote *cli_connect(const char *url);
/* Tokens as cli_connect finds them; all malloc'd, refresh NULL for $CAIRN_TOKEN. CLI_FAILED after a message. */
struct cli_login {
    char *url, *user, *access, *refresh;
};
int cli_find_login(const char *url, struct cli_login *ret);
void cli_login_fini(struct cli_login *l);
/* Keeps renewed tokens of that URL in the file, one program at a time; one such per process. */
const struct remote_token_store *cli_token_store(const char *url);
void cli_save_tokens(void *ctx, const char *access, const char *refresh); /* for on_tokens; within lock…unlock of the store */
/* "http://host:port" without a slash at the end; -EINVAL for what is no such URL. */
int cli_normal_url(const char *text, char ret[CLI_URL_MAX]);
void cli_device(char ret[129]); /* this machine's name */
char *cli_read_password(const char *user, bool from_stdin); /* malloc'd; NULL after a message */

/* ---- target.c: what a path on the command line means ---- */
struct target {
    char *url;   /* of the mount that it lies in, or NULL */
    char *drive; /* NULL: not given */
    char *path;  /* in the drive, starts with '/', no '/' at the end unless it is the root */
    bool slash;  /* it was written with '/' at the end */
};
void target_fini(struct target *t);
#define CLEANUP_TARGET CLEANUP(target_fini)
/* "DRIVE:/PATH" (":/PATH": of $CAIRN_DRIVE). -EINVAL: not of that form, or a path with "..". */
int target_parse(const char *text, struct target *ret);
/* That, or the path of something in a mount. 0 or CLI_USAGE/CLI_FAILED after a message. */
int target_find(const struct verb *self, const char *text, struct target *ret);
/* target_find, then the connection to it (url: --url, NULL where it was not given) and its drive: for verbs that take one place. 0 with *ret_remote, which the caller frees;
   else the verb's exit status after a message. */
int target_open(const struct verb *self, const char *text, const char *url, struct target *ret, struct remote **ret_remote);
/* The same for a place that was found already; `drive`: if the place names none (may be NULL). */
int target_connect(struct target *t, const char *url, const char *drive, struct remote **ret_remote);
/* `name` as a drive: t->drive, else $CAIRN_DRIVE, else the only one there is; malloc'd, NULL after a message. */
char *cli_drive(struct remote *r, const char *drive);
/* "/api/v1/WHAT?drive=…&path=…" */
void cli_path_query(struct buf *ret, const char *what, const struct target *t);
void cli_add_query(struct buf *ret, const char *key, const char *value);
/* GET /files of it; *ret NULL where there is nothing. 0 or CLI_FAILED after a message. */
int cli_stat(struct remote *r, const struct target *t, json_t **ret);
bool cli_is_directory(const json_t *file);
char *cli_join(const char *dir, const char *name); /* "/a" "b" → "/a/b" */
/* The name of an entry of a listing (bytes); borrowed or malloc'd into *keep. */
const char *cli_entry_name(const json_t *entry, char **keep);
/* Calls fn for each entry of a directory, all pages. Stops at non-zero, which it returns. */
int cli_each_entry(struct remote *r, const struct target *dir, int (*fn)(void *ctx, json_t *entry), void *ctx);

/* ---- mounts.c ---- */
struct cli_mount {
    char *dir;
    char *source;
};
/* Mounted drives of this machine, by /proc/self/mountinfo. *ret is malloc'd. */
size_t cli_mounts(struct cli_mount **ret);
void cli_mounts_free(struct cli_mount *m, size_t n);
/* The mount that path lies in; *ret_rel: the path in it ("/…"). -ENOENT: none. Both malloc'd. */
int cli_mount_of(const char *path, char **ret_dir, char **ret_rel);
/* Negative errno; -ENOTCONN: its driver is gone, -ETIMEDOUT: it hangs. */
int cli_mount_status(const char *dir, json_t **ret);
/* For tests: the same from the text of a mountinfo file. */
size_t cli_mounts_parse(FILE *f, struct cli_mount **ret);

/* ---- progress.c: a bar on stderr where that is a terminal; all thread-safe ---- */
struct progress;
struct progress *progress_new(const char *label, uint64_t total);
void progress_add(struct progress *p, uint64_t bytes);
void progress_set(struct progress *p, uint64_t done, uint64_t total);
void progress_free(struct progress *p); /* wipes the line */
/* Ctrl-C (SIGINT, SIGTERM) once asks to stop, twice ends the process. */
void cli_catch_interrupts(void);
bool cli_interrupted(void);

/* ---- upload.c, download.c ---- */
struct upload_figures {
    uint64_t files, chunks, sent, bytes;
};
/* Puts a local file at that place, resuming where an earlier try stopped. fd: the file; name: for messages. Adds to figures. 0 or CLI_FAILED after a message. */
int upload_file(struct remote *r, const char *name, int fd, const struct target *to, struct upload_figures *figures);
struct download {
    uint64_t version; /* 0: the newest */
    const char *file; /* where to, "-": stdout */
};
int download_file(struct remote *r, const struct target *from, const struct download *how);
#endif
