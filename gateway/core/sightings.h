/* Until when another gateway's interest row may still hold, by this gateway's own clock.

   A row is written again about every second, each time with another `until`. One that has not changed for INTEREST_MS since it was first seen as it is was written before that, and has
   ended: its gateway counts from before it wrote it (docs/decisions/0020). So a database whose clock is set, or that is replaced by another one, shortens no promise. Loop thread; no clock. */
#ifndef CAIRN_GATEWAY_CORE_SIGHTINGS_H
#define CAIRN_GATEWAY_CORE_SIGHTINGS_H
#include "gateway/ports/meta.h"

struct sightings;
struct sightings *sightings_new(void);
void sightings_free(struct sightings *s);
/* The row was read under the drive's lock, not before read_at_ms. Returns when what it promises has ended at the latest. *ret_forget: it has, and nobody has been told to remove it yet. */
int64_t sightings_until(struct sightings *s, const struct uuid *drive, const struct interest_row *row, int64_t read_at_ms, int64_t now_ms, bool *ret_forget);
size_t sightings_count(const struct sightings *s);
#endif
