/* What a fuzz target gives: libFuzzer's entry, and seeds from which driver.c makes inputs. */
#ifndef CAIRN_TESTS_FUZZ_H
#define CAIRN_TESTS_FUZZ_H
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
struct fuzz_seed {
    const char *bytes;
    size_t len;
};
#define FUZZ_SEED(literal) {literal, sizeof literal - 1}
extern const struct fuzz_seed fuzz_seeds[];
extern const size_t fuzz_seeds_n;
/* Something that must hold whatever the input is. */
#define FUZZ_MUST(condition) ((condition) ? (void)0 : __builtin_trap())
#endif
