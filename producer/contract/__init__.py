"""The rest of the published face: how messages are routed, cut, looked up and explained."""
