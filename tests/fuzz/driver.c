/* Runs a fuzz target without libFuzzer: its seeds, each cut off everywhere, and mutations of them. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20000
#define INPUT_MAX 8192

static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* A copy that ends where its memory ends, so that a byte read too many is found by the sanitizer. */
static void run(const char *bytes, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, bytes, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static size_t mutate(char *p, size_t n)
{
    size_t at = n ? next_random() % n : 0;
    const struct fuzz_seed *other = &fuzz_seeds[next_random() % fuzz_seeds_n];
    size_t from = other->len ? next_random() % other->len : 0, len = other->len - from;
    switch (next_random() % 5) {
    case 0: /* another byte */
        if (n)
            p[at] = (char)next_random();
        return n;
    case 1: /* one bit */
        if (n)
            p[at] = (char)(p[at] ^ (1 << next_random() % 8));
        return n;
    case 2: /* bytes go */
        len = n ? 1 + next_random() % (n - at) : 0;
        memmove(p + at, p + at + len, n - at - len);
        return n - len;
    case 3: /* a piece of another seed comes */
        if (n + len > INPUT_MAX)
            return n;
        memmove(p + at + len, p + at, n - at);
        memcpy(p + at, other->bytes + from, len);
        return n + len;
    default: /* a piece comes twice */
        len = n ? 1 + next_random() % (n - at) : 0;
        if (n + len > INPUT_MAX)
            return n;
        memmove(p + at + len, p + at, n - at);
        return n + len;
    }
}

int main(void)
{
    static char input[INPUT_MAX];
    const char *text = getenv("FUZZ_SEED");
    state = text ? strtoull(text, NULL, 10) : 1;
    state = state ? state : 1;
    printf("FUZZ_SEED=%llu\n", (unsigned long long)state);
    for (size_t i = 0; i < fuzz_seeds_n; i++)
        for (size_t n = 0; n <= fuzz_seeds[i].len; n++)
            run(fuzz_seeds[i].bytes, n);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const struct fuzz_seed *seed = &fuzz_seeds[next_random() % fuzz_seeds_n];
        size_t n = seed->len;
        memcpy(input, seed->bytes, n);
        for (uint64_t k = next_random() % 8; k > 0; k--)
            n = mutate(input, n);
        run(input, n);
    }
    return 0;
}
