"""Loading: plans in, batches out; reading ahead, slots, state."""
