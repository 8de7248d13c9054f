from wharf import Message, Reject, enricher, kv, lookup


class Plugin:
    SUMMARY = "numbers orders, and sets what their article costs"

    def __init__(self, config: dict):
        pass

    def enrich(self, message: Message) -> dict:
        article = message.text()
        number = kv.add("orders")
        price = lookup.text("prices", article)
        if price is None:
            raise Reject("no-price", f"there is no price of {article}")
        kv.set(f"last/{article}", str(number), 1000)
        kv.remove("idle")
        return {"number": number, "price": price}


Lifecycle, Enrich = enricher(Plugin)
