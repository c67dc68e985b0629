#include "fusefs/cli/mount_options.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

#define CACHE_SIZE_DEFAULT (UINT64_C(10) << 30)
#define TIMEOUT_DEFAULT_S 30

void mount_options_fini(struct mount_options *o)
{
    free(o->fuse_options);
    free(o->words);
    *o = (struct mount_options){0};
}

static int bad_value(const struct verb *self, const char *key, const char *value, const char *wanted)
{
    cli_usage(self, "-o %s takes %s, not \"%s\".", key, wanted, cli_name(value));
    return -EINVAL;
}

static int id_option(const struct verb *self, const char *key, const char *value, bool *has, uint32_t *ret)
{
    uint64_t n;
    if (cli_parse_number(value, &n) || n >= UINT32_MAX)
        return bad_value(self, key, value, "a number");
    *has = true;
    *ret = (uint32_t)n;
    return 0;
}

/* key=value. 1: not one of ours. */
static int value_option(const struct verb *self, const char *key, const char *value, struct mount_options *o)
{
    uint64_t n;
    if (strcmp(key, "timeout") == 0) {
        if (cli_parse_number(value, &n) || n == 0 || n > 86400)
            return bad_value(self, key, value, "seconds, from 1 to 86400");
        o->timeout_s = (unsigned)n;
    } else if (strcmp(key, "uid") == 0) {
        return id_option(self, key, value, &o->has_uid, &o->uid);
    } else if (strcmp(key, "gid") == 0) {
        return id_option(self, key, value, &o->has_gid, &o->gid);
    } else if (strcmp(key, "direct") == 0) {
        return cli_parse_direct(self, value, &o->direct);
    } else if (strcmp(key, "url") == 0) {
        o->url = value;
    } else if (strcmp(key, "user") == 0) {
        o->user = value;
    } else if (strcmp(key, "drive") == 0) {
        o->drive = value;
    } else if (strcmp(key, "cache-dir") == 0 || strcmp(key, "cache_dir") == 0) {
        o->cache_dir = value;
    } else if (strcmp(key, "cache-size") == 0 || strcmp(key, "cache_size") == 0) {
        if (cli_parse_size(value, &o->cache_size))
            return bad_value(self, key, value, "a size such as 512M or 10G");
    } else {
        return 1;
    }
    return 0;
}

static bool flag_option(const char *word, struct mount_options *o)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"allow_other", &o->allow_other}, {"ro", &o->read_only}, {"strict", &o->strict},        {"writeback", &o->writeback},
                 {"foreground", &o->foreground},   {"debug", &o->debug},  {"password-stdin", &o->password_stdin}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(flags[i].name, word) == 0) {
            *flags[i].flag = true;
            return true;
        }
    return false;
}

/* For mount(8) and systemd, not for FUSE. */
static bool ignored(const char *word)
{
    static const char *const words[] = {"rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], word) == 0)
            return true;
    return strncmp(word, "x-", 2) == 0 || strncmp(word, "comment=", 8) == 0;
}

static int take_words(const struct verb *self, struct mount_options *o)
{
    char *save;
    CLEANUP_BUF struct buf rest = {0};
    for (char *word = strtok_r(o->words, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(word, '=');
        if (flag_option(word, o) || ignored(word))
            continue;
        if (equals) {
            *equals = 0;
            int err = value_option(self, word, equals + 1, o);
            if (err <= 0) {
                if (err)
                    return err;
                continue;
            }
            *equals = '=';
        }
        buf_appendf(&rest, "%s%s", rest.len ? "," : "", word);
    }
    if (rest.len)
        o->fuse_options = buf_detach(&rest);
    return 0;
}

/* -o may be given several times: they are one list. */
static void gather_words(int *argc, char **argv, struct mount_options *o)
{
    CLEANUP_BUF struct buf all = {0};
    int n = 0;
    bool ended = false;
    for (int i = 0; i < *argc; i++) {
        const char *list = NULL;
        ended = ended || strcmp(argv[i], "--") == 0;
        if (!ended && strcmp(argv[i], "-o") == 0 && i + 1 < *argc)
            list = argv[++i];
        else if (!ended && strncmp(argv[i], "-o", 2) == 0 && argv[i][2])
            list = argv[i] + 2;
        if (list)
            buf_appendf(&all, "%s,", list);
        else
            argv[n++] = argv[i];
    }
    *argc = n;
    o->words = buf_detach(&all);
}

int mount_options_parse(const struct verb *self, int argc, char **argv, struct mount_options *ret)
{
    struct mount_options *o = ret;
    o->cache_size = CACHE_SIZE_DEFAULT;
    o->timeout_s = TIMEOUT_DEFAULT_S;
    o->direct = true;
    gather_words(&argc, argv, o);
    int err = take_words(self, o);
    if (err)
        return err;
    const char *direct = NULL;
    const struct cli_option options[] = {
        {"direct", 0, CLI_TEXT, &direct},
        {"drive", 0, CLI_TEXT, &o->drive},          {"url", 0, CLI_TEXT, &o->url},           {"user", 'u', CLI_TEXT, &o->user},
        {"password-stdin", 0, CLI_FLAG, &o->password_stdin}, {"cache-dir", 0, CLI_TEXT, &o->cache_dir}, {"cache-size", 0, CLI_SIZE, &o->cache_size},
        {"writeback", 0, CLI_FLAG, &o->writeback},  {"foreground", 'f', CLI_FLAG, &o->foreground}, {"debug", 'd', CLI_FLAG, &o->debug},
    };
    int n = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, 1, 1);
    if (n < 0 || (direct && cli_parse_direct(self, direct, &o->direct)))
        return -EINVAL;
    o->dir = argv[0];
    o->foreground |= o->debug;
    if (o->cache_size < (UINT64_C(64) << 20)) {
        cli_usage(self, "a cache of less than 64M is too small to work with.");
        return -EINVAL;
    }
    return 0;
}

char **mount_helper_arguments(int argc, char **argv, int *ret_argc)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    bool by_name = strncmp(name, "mount.", 6) == 0;
    if (argc < 3 || argv[1][0] == '-' || (!by_name && (argc < 5 || argv[2][0] == '-' || argv[3][0] != '-' || argv[3][1] != 'o')))
        return NULL;
    static char verb[] = "mount", drive[] = "--drive", rest[] = "--";
    char **args = mem_calloc((size_t)argc + 4, sizeof *args);
    int n = 0;
    args[n++] = argv[0];
    args[n++] = verb;
    args[n++] = drive;
    args[n++] = argv[1];
    for (int i = 3; i < argc; i++) {
        if (by_name && (strcmp(argv[i], "-t") == 0 || strcmp(argv[i], "-N") == 0))
            i++; /* with its value: mount(8)'s own */
        else if (!by_name || strcmp(argv[i], "-o") == 0 || (i && strcmp(argv[i - 1], "-o") == 0))
            args[n++] = argv[i];
    }
    args[n++] = rest;
    args[n++] = argv[2];
    *ret_argc = n;
    return args;
}
