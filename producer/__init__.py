"""What an upstream system installs: publish enrollment requests, read their outcomes."""
