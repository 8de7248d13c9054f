import { Reject, enricher } from "./wharf.js";
import * as kv from "./wharf/kv.js";
import * as lookup from "./wharf/lookup.js";

export const { lifecycle, enrich } = enricher({
  summary: "numbers orders, and sets what their article costs",

  enrich(message) {
    const article = message.text();
    const number = kv.add("orders");
    const price = lookup.text("prices", article);
    if (price === null) throw new Reject("no-price", `there is no price of ${article}`);
    kv.set(`last/${article}`, String(number), 1000);
    kv.remove("idle");
    return { number, price };
  },
});
