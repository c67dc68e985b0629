#include "fusefs/cli/cli.h"

#include <string.h>

#define TYPED_MAX 32

/* Edits that turn one word into the other: insert, delete, replace. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(b), row[TYPED_MAX + 1];
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const struct verb *cli_nearest(const struct verb *const *verbs, size_t n, const char *typed)
{
    const struct verb *best = NULL;
    size_t best_distance = 3; /* beyond two edits it is another word */
    if (strlen(typed) > TYPED_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(verbs[i]->name, typed);
        bool better = d < best_distance || (best && d == best_distance && best->name[0] != typed[0] && verbs[i]->name[0] == typed[0]);
        if (better && d < strlen(verbs[i]->name)) {
            best = verbs[i];
            best_distance = d;
        }
    }
    return best;
}

static void print_help(const struct verb *const *verbs, size_t n)
{
    puts("Cairn: your files in one shared, versioned store, as a directory on every machine.\n\nUsage: cairn VERB …\n");
    for (size_t i = 0; i < n; i++)
        printf("  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    puts("\n\"cairn VERB --help\" tells more. A file in a drive is written DRIVE:/PATH, or as its path in a mount.\n"
         "$CAIRN_URL, $CAIRN_TOKEN and $CAIRN_DRIVE stand in for a login and for DRIVE.\n"
         "Exit status: 0 done, 1 failed, 2 wrong usage.");
}

static void print_verb_help(const struct verb *v)
{
    printf("Usage: cairn %s %s\n\n%s.\n", v->name, v->usage, v->summary);
    if (v->help)
        printf("\n%s\n", v->help);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0)
            return true;
    return false;
}

static const struct verb *find(const struct verb *const *verbs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return NULL;
}

int cli_run(const struct verb *const *verbs, size_t n, int argc, char **argv)
{
    if (argc < 2) {
        fputs("cairn: say what to do: \"cairn --help\" lists it.\n", stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 && argc > 2)
        name = argv[2];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(verbs, n);
        return cli_finish_output();
    }
    if (strcmp(name, "--version") == 0) {
        puts("cairn " CAIRN_VERSION);
        return cli_finish_output();
    }
    const struct verb *v = find(verbs, n, name);
    if (v && (name == argv[2] || wants_help(argc - 1, argv + 1))) {
        print_verb_help(v);
        return cli_finish_output();
    }
    if (v)
        return v->run(v, argc - 1, argv + 1);
    const struct verb *near = cli_nearest(verbs, n, name);
    if (near)
        fprintf(stderr, "cairn: there is no verb \"%s\". Did you mean \"%s\"?\n", cli_name(name), near->name);
    else
        fprintf(stderr, "cairn: there is no verb \"%s\": \"cairn --help\" lists them.\n", cli_name(name));
    return CLI_USAGE;
}
