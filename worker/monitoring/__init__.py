"""Show an operator what is happening: log lines, metrics and health."""
