/* Framed bodies: what is accepted lies within the body and fills it. The first byte says how long the head is claimed to be. */
#include "gateway/api/framed.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>

#define CONTENT "{\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"size\":3,\"stored\":3,\"codec\":\"raw\"}"
const struct fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("\002{}"),
    FUZZ_SEED("\227{\"contents\":[" CONTENT "],\"drive\":\"home\",\"batch\":1}abc"),
    FUZZ_SEED("\374{\"contents\":[" CONTENT "," CONTENT "], \"x\":[1,2,{}]}abcabc"),
    FUZZ_SEED("\177{\"contents\":[{\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"size\":9,\"stored\":4,\"codec\":\"zstd\"}]}"
              "\x28\xb5\x2f\xfd"),
};
const size_t fuzz_seeds_n = sizeof fuzz_seeds / sizeof *fuzz_seeds;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct framed f;
    const char *why = NULL;
    char head[16];
    size_t bad;
    if (size == 0)
        return 0;
    snprintf(head, sizeof head, "%u", data[0]);
    const char *body = (const char *)data + 1;
    size_t len = size - 1;
    if (framed_parse(head, body, len, &f, &why)) {
        FUZZ_MUST(why);
        return 0;
    }
    size_t at = data[0];
    for (size_t i = 0; i < f.n_contents; i++) {
        FUZZ_MUST(f.contents[i].bytes == body + at);
        at += f.contents[i].stored_size;
    }
    FUZZ_MUST(at == len);
    uint64_t plain = 0;
    for (size_t i = 0; i < f.n_contents; i++)
        plain += f.contents[i].size;
    if (plain < 1 << 20) /* decoding is tried where it is quick */
        framed_verify(&f, &bad);
    framed_fini(&f);
    return 0;
}
