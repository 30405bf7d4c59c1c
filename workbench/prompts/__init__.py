"""Named prompts: their versions, and experiments between them."""
