"""Plan batches before anything is applied: store their chunks, make the plan, and apply it."""
