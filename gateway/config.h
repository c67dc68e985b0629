/* What the gateway is told: options on the command line, each also $CAIRN_<NAME> (the command line wins; of several, the last).
   Parsed and checked once, here; strings point into argv and the environment. */
#ifndef CAIRN_GATEWAY_CONFIG_H
#define CAIRN_GATEWAY_CONFIG_H
#include "common/buf.h"
#include "common/log.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum verb { VERB_SERVE = 1, VERB_WORKER = 2, VERB_MIGRATE = 4, VERB_CONFIG_CHECK = 8, VERB_ADMIN = 16 };
#define CONFIG_POSITIONAL_MAX 8

struct config {
    const char *embedded; /* DIR, NULL: none */
    const char *listen, *meta, *objects, *cache, *events, *scanner, *public_url, *advertise, *spool; /* NULL where not given */
    char *meta_of_embedded, *objects_of_embedded; /* owned; what meta and objects point to then */
    unsigned workers, threads, queue_max;
    double rate_limit;
    unsigned proxies; /* in front of it, one behind the other */
    enum log_level log_level;
    bool help;
    /* admin */
    const char *owner;
    bool admin, json, password_stdin;
    unsigned days;
    bool keep_given;
    uint64_t keep; /* valid where keep_given */
    const char *positional[CONFIG_POSITIONAL_MAX]; /* words that are no options */
    size_t n_positional;
};
/* argv: what follows the verb. -EINVAL: ret_error says which option, which value, and what it should have been. */
int config_parse(enum verb verb, int argc, char *const *argv, struct config *ret, struct buf *ret_error);
void config_fini(struct config *c);
/* The options of a verb, as --help shows them. */
void config_help(FILE *out, enum verb verb);
/* The effective settings, "name=value" a line. */
void config_print(FILE *out, const struct config *c);
/* "10G" → bytes: K M G T are powers of 1024. -EINVAL. */
int config_parse_size(const char *text, uint64_t *ret);
/* Names of users and of drives: NULL, or the rule that is broken. */
const char *config_user_name_wrong(const char *name);
const char *config_drive_name_wrong(const char *name);
#endif
