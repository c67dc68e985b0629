#include "common/clock.h"

#include <errno.h>
#include <string.h>

#define NS INT64_C(1000000000)

int64_t clock_boot_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_wall_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return clock_ns(ts);
}

struct timespec clock_timespec(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / NS, .tv_nsec = ns % NS};
    if (ts.tv_nsec < 0) { /* before 1970 */
        ts.tv_nsec += NS;
        ts.tv_sec--;
    }
    return ts;
}

int64_t clock_ns(struct timespec ts)
{
    return (int64_t)ts.tv_sec * NS + ts.tv_nsec;
}

static char *put_digits(char *p, unsigned v, int n)
{
    for (int i = n - 1; i >= 0; i--, v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

/* Without strftime: lists of files are full of times. Years 0 to 9999. */
static char *put_date_time(char *p, int64_t ns, char between)
{
    struct timespec ts = clock_timespec(ns);
    struct tm tm;
    gmtime_r(&ts.tv_sec, &tm);
    p = put_digits(p, (unsigned)(tm.tm_year + 1900), 4);
    *p++ = '-';
    p = put_digits(p, (unsigned)(tm.tm_mon + 1), 2);
    *p++ = '-';
    p = put_digits(p, (unsigned)tm.tm_mday, 2);
    *p++ = 'T';
    p = put_digits(p, (unsigned)tm.tm_hour, 2);
    *p++ = between;
    p = put_digits(p, (unsigned)tm.tm_min, 2);
    *p++ = between;
    return put_digits(p, (unsigned)tm.tm_sec, 2);
}

void clock_format_rfc3339(int64_t ns, char ret[CLOCK_TEXT])
{
    char *p = put_date_time(ret, ns, ':');
    *p++ = '.';
    p = put_digits(p, (unsigned)(clock_timespec(ns).tv_nsec / 1000000), 3);
    memcpy(p, "Z", 2);
}

void clock_format_path(int64_t ns, char ret[CLOCK_TEXT])
{
    char *p = put_date_time(ret, ns, '-');
    memcpy(p, "Z", 2);
}

/* Exactly n digits. */
static int digits(const char **p, int n, int *ret)
{
    int value = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return -EINVAL;
        value = value * 10 + (**p - '0');
    }
    *ret = value;
    return 0;
}

static int literal(const char **p, char c)
{
    if (**p != c)
        return -EINVAL;
    (*p)++;
    return 0;
}

static int parse_date_time(const char **p, char between, int64_t *ret_ns)
{
    struct tm tm = {0}, again;
    if (digits(p, 4, &tm.tm_year) || literal(p, '-') || digits(p, 2, &tm.tm_mon) || literal(p, '-') ||
        digits(p, 2, &tm.tm_mday) || literal(p, 'T') || digits(p, 2, &tm.tm_hour) || literal(p, between) ||
        digits(p, 2, &tm.tm_min) || literal(p, between) || digits(p, 2, &tm.tm_sec))
        return -EINVAL;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    again = tm;
    time_t seconds = timegm(&again);
    /* timegm normalises what is no date: the 31st of June comes back as another day */
    if (again.tm_mday != tm.tm_mday || again.tm_mon != tm.tm_mon || again.tm_hour != tm.tm_hour ||
        again.tm_min != tm.tm_min || again.tm_sec != tm.tm_sec || seconds > INT64_MAX / NS || seconds < INT64_MIN / NS)
        return -EINVAL;
    *ret_ns = (int64_t)seconds * NS;
    return 0;
}

int clock_parse_rfc3339(const char *text, int64_t *ret_ns)
{
    int64_t ns;
    const char *p = text;
    if (!text || parse_date_time(&p, ':', &ns))
        return -EINVAL;
    if (*p == '.') {
        int64_t unit = NS / 10;
        if (*++p < '0' || *p > '9')
            return -EINVAL;
        for (; *p >= '0' && *p <= '9'; p++, unit /= 10)
            ns += (*p - '0') * unit;
    }
    if (*p == 'Z' || *p == 'z') {
        p++;
    } else if (*p == '+' || *p == '-') {
        int sign = *p++ == '+' ? 1 : -1, hours, minutes;
        if (digits(&p, 2, &hours) || literal(&p, ':') || digits(&p, 2, &minutes) || hours > 23 || minutes > 59)
            return -EINVAL;
        ns -= sign * (hours * 3600 + minutes * 60) * NS;
    } else {
        return -EINVAL;
    }
    if (*p)
        return -EINVAL;
    *ret_ns = ns;
    return 0;
}

int clock_parse_path(const char *text, int64_t *ret_ns)
{
    int64_t ns;
    const char *p = text;
    if (!text || parse_date_time(&p, '-', &ns) || strcmp(p, "Z") != 0)
        return -EINVAL;
    *ret_ns = ns;
    return 0;
}
