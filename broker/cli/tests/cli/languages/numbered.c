/* Numbers orders, and sets what their article costs. */
#include "wharf.h"

static wharf_verdict enrich(const wharf_message *message) {
  wharf_bytes article = wharf_payload(message), price;
  wharf_verdict why;
  int64_t orders;
  if (!wharf_kv_add(WHARF("orders"), 1, WHARF_FOR_GOOD, &orders, &why)) return why;
  if (!wharf_lookup(WHARF("prices"), article, &price, &why)) return why;
  if (price.data == NULL) {
    wharf_buffer said = {0};
    wharf_add(&said, WHARF("there is no price of "));
    wharf_add(&said, article);
    return wharf_reject("no-price", wharf_bytes_of(&said));
  }

  wharf_buffer number = {0}, last = {0};
  wharf_add_number(&number, orders);
  wharf_add(&last, WHARF("last/"));
  wharf_add(&last, article);
  if (!wharf_kv_set(wharf_bytes_of(&last), wharf_bytes_of(&number), 1000, &why)) return why;
  if (!wharf_kv_remove(WHARF("idle"), &why)) return why;
  const wharf_field headers[] = {{WHARF("number"), wharf_bytes_of(&number)}, {WHARF("price"), price}};
  return wharf_set(headers, 2);
}
WHARF_ENRICHER(enrich)

const wharf_plugin wharf_this = {
    .summary = "numbers orders, and sets what their article costs",
    .reads = WHARF_READS_PAYLOAD,
};
