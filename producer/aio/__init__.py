"""The client for asyncio: the same verbs, with a few threads for any number of calls at once."""
