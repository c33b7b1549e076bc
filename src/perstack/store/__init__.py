"""Where events are durable: adapters of the `Store` port."""
