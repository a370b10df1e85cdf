"""Read what requests did to pairs, and which of them count."""
