/* Numbers that people write. */
#ifndef CAIRN_COMMON_NUMBER_H
#define CAIRN_COMMON_NUMBER_H
#include <stdbool.h>
#include <stdint.h>

/* text is nothing but digits, of a number from least to most. */
bool number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *ret);
#endif
