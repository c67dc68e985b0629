/* As much of XML as S3's answers need: elements without attributes that matter, text with the five entities. Not for documents of others. */
#ifndef CAIRN_GATEWAY_ADAPTERS_S3_XML_H
#define CAIRN_GATEWAY_ADAPTERS_S3_XML_H
#include <stdbool.h>
#include <stddef.h>

/* The text of the first element of that name, cut to cap - 1 bytes. false, and "", where there is none. */
bool s3_xml_text(const char *xml, const char *name, char *ret, size_t cap);
/* The next element of that name in *at, which moves behind it: what it holds, owned by the caller. NULL: no more. */
char *s3_xml_next(const char **at, const char *name);
#endif
