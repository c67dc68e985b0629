/* Logging to stderr: JSON lines {"ts","level","msg","traceId",…} in the gateway, plain lines in the
   driver and the command line. Thread-safe; a line is written with one write(2). */
#ifndef CAIRN_COMMON_LOG_H
#define CAIRN_COMMON_LOG_H
#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
void log_init(bool json, enum log_level least);
int log_level_parse(const char *text, enum log_level *ret); /* debug info warn error; -EINVAL */
/* trace: the request's trace id or NULL. The message is escaped as JSON needs. */
void log_write(enum log_level level, const char *trace, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, NULL, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, NULL, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, NULL, __VA_ARGS__)
#endif
