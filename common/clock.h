/* Time: what leases count on (CLOCK_BOOTTIME), and what people see (RFC 3339, UTC). */
#ifndef CAIRN_COMMON_CLOCK_H
#define CAIRN_COMMON_CLOCK_H
#include <stddef.h>
#include <stdint.h>
#include <time.h>

int64_t clock_boot_ms(void);  /* CLOCK_BOOTTIME, milliseconds: goes on during suspend, never back */
int64_t clock_wall_ns(void);  /* CLOCK_REALTIME, nanoseconds since 1970 */
#define CLOCK_TEXT 32
/* "2026-11-24T14:10:37.123Z" */
void clock_format_rfc3339(int64_t ns, char ret[CLOCK_TEXT]);
int clock_parse_rfc3339(const char *text, int64_t *ret_ns); /* -EINVAL */
/* "2026-11-24T14-10-37Z": as in .versions */
void clock_format_path(int64_t ns, char ret[CLOCK_TEXT]);
int clock_parse_path(const char *text, int64_t *ret_ns);    /* -EINVAL */
struct timespec clock_timespec(int64_t ns);
int64_t clock_ns(struct timespec ts);
#endif
