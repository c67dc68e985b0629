#include "fusefs/cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

int cli_usage(const struct verb *self, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "cairn %s: ", self->name);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nUsage: cairn %s %s\n", self->name, self->usage);
    return CLI_USAGE;
}

int cli_parse_number(const char *text, uint64_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18 || text[digits])
        return -EINVAL;
    *ret = strtoull(text, NULL, 10);
    return 0;
}

int cli_parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGTP";
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18)
        return -EINVAL;
    uint64_t n = strtoull(text, NULL, 10);
    const char *unit = text + digits;
    if (*unit) {
        const char *found = strchr(units, toupper((unsigned char)*unit));
        if (!found || (unit[1] && strcmp(unit + 1, "iB") != 0 && strcmp(unit + 1, "B") != 0))
            return -EINVAL;
        for (const char *u = units; u <= found; u++) {
            if (n > UINT64_MAX / 2 / 1024)
                return -EINVAL;
            n *= 1024;
        }
    }
    *ret = n;
    return 0;
}

int cli_parse_direct(const struct verb *self, const char *text, bool *ret)
{
    if (strcmp(text, "auto") != 0 && strcmp(text, "off") != 0) {
        cli_usage(self, "direct is auto or off, not \"%s\".", cli_name(text));
        return -EINVAL;
    }
    *ret = text[0] == 'a';
    return 0;
}

static int set_value(const struct verb *self, const struct cli_option *o, const char *value)
{
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->value = true;
        return 0;
    case CLI_TEXT:
        *(const char **)o->value = value;
        return 0;
    case CLI_NUMBER:
        if (cli_parse_number(value, o->value) == 0)
            return 0;
        cli_usage(self, "--%s takes a whole number, not \"%s\".", o->name, value);
        return -EINVAL;
    case CLI_SIZE:
        if (cli_parse_size(value, o->value) == 0)
            return 0;
        cli_usage(self, "--%s takes a size such as 512M or 10G, not \"%s\".", o->name, value);
        return -EINVAL;
    }
    return -EINVAL;
}

/* --name, --name=value, --name value. Returns how many further arguments it took. */
static int long_option(const struct verb *self, const char *arg, const char *following, const struct cli_option *options, size_t n)
{
    const char *name = arg + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    for (size_t i = 0; i < n; i++) {
        const struct cli_option *o = &options[i];
        if (strlen(o->name) != len || strncmp(o->name, name, len) != 0)
            continue;
        if (o->kind == CLI_FLAG && equals) {
            cli_usage(self, "--%s takes no value.", o->name);
            return -EINVAL;
        }
        if (o->kind != CLI_FLAG && !equals && !following) {
            cli_usage(self, "--%s needs a value.", o->name);
            return -EINVAL;
        }
        bool takes = o->kind != CLI_FLAG && !equals;
        int err = set_value(self, o, takes ? following : equals ? equals + 1 : NULL);
        return err ? err : takes;
    }
    cli_usage(self, "there is no option %s.", arg);
    return -EINVAL;
}

/* -a, -abc, -oVALUE, -o VALUE. */
static int short_options(const struct verb *self, const char *arg, const char *following, const struct cli_option *options, size_t n)
{
    for (const char *p = arg + 1; *p; p++) {
        const struct cli_option *o = NULL;
        for (size_t i = 0; i < n; i++)
            if (options[i].letter == *p)
                o = &options[i];
        if (!o) {
            cli_usage(self, "there is no option -%c.", *p);
            return -EINVAL;
        }
        if (o->kind == CLI_FLAG) {
            set_value(self, o, NULL);
            continue;
        }
        if (!p[1] && !following) {
            cli_usage(self, "-%c needs a value.", *p);
            return -EINVAL;
        }
        int err = set_value(self, o, p[1] ? p + 1 : following);
        return err ? err : !p[1];
    }
    return 0;
}

int cli_parse(const struct verb *self, int argc, char **argv, const struct cli_option *options, size_t n_options, int least, int most)
{
    int n = 0;
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i], *following = i + 1 < argc ? argv[i + 1] : NULL;
        int took = 0;
        if (ended || arg[0] != '-' || !arg[1])
            argv[n++] = arg;
        else if (strcmp(arg, "--") == 0)
            ended = true;
        else if (arg[1] == '-')
            took = long_option(self, arg, following, options, n_options);
        else
            took = short_options(self, arg, following, options, n_options);
        if (took < 0)
            return took;
        i += took;
    }
    if (n < least || (most >= 0 && n > most)) {
        if (n < least)
            cli_usage(self, "something is missing.");
        else
            cli_usage(self, "\"%s\" is one too many.", argv[most]);
        return -EINVAL;
    }
    return n;
}
