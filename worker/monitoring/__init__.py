"""Show an operator what happens: log lines, metrics and health."""
