#include "wharf.h"

#include <stdio.h>

static wharf_verdict print(const wharf_message *message) {
  enum { ROOM = 64 };
  char *text = wharf_memory(ROOM);
  size_t bytes = wharf_payload(message).length;
  int length = snprintf(text, ROOM, "%zu bytes, %.2f, 0x%02x", bytes, bytes / 4.0, (unsigned)bytes);
  wharf_field *header = wharf_memory(sizeof *header);
  *header = (wharf_field){WHARF("printed"), {text, (size_t)length}};
  return wharf_set(header, 1);
}
WHARF_ENRICHER(print)

const wharf_plugin wharf_this = {.summary = "prints numbers", .reads = WHARF_READS_PAYLOAD};
